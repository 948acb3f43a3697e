//! The container's cgroup on the kernel's hierarchies: v1, v2 and both at once.
