//! Kernel objects as data, the Driver trait, and the planner.
