//! Container lifecycle: create, start, stop, exec, logs, events.
