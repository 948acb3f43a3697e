//! Layers: tars to directories that overlayfs stacks, and back.

mod pack;
mod size;
mod stage;
mod unpack;
mod whiteout;

pub(crate) use pack::{Style, pack};
pub(crate) use size::size;
pub(crate) use stage::Staged;
pub(crate) use unpack::unpack;
pub(crate) use whiteout::{is_opaque, is_whiteout};
