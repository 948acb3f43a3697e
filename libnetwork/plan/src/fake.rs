//! A kernel that lives in memory and refuses what the kernel refuses.
