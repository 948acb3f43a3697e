//! The bridge driver: a compiler from networks to kernel objects.
