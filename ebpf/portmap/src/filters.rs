//! Programs on our own links: bridges, and the host's ends of veth pairs. They hang in the link's ingress qdisc, which goes
//! with the link, so that there is nothing to pin and nothing to remember. (A TCX link, as uplinks have, also waits for
//! every CPU to leave RCU when it is attached: some ten milliseconds, which each `docker run -p` would pay.)

use std::{io, mem};

use aya::programs::{
    ProgramError, SchedClassifier, TcAttachType,
    links::Link as _,
    tc::{NlOptions, SchedClassifierLink, TcAttachOptions, TcError, TcHandle},
};

use crate::qdisc;

/// Where the filter of a layout is among others on the link: in front of those of layouts before it. The kernel gives
/// priorities from 0xc000 downwards to filters that name none, which therefore come first.
pub(crate) fn priority(layout: u32) -> u16 {
    0xca5a_u16.saturating_sub(layout as u16)
}

/// Its number there: by both a later process finds it.
const HANDLE: TcHandle = TcHandle::new(0, 1);

/// Puts the program at the ingress of the interface. One of ours that is there, an earlier process's too, is replaced in
/// one step.
pub(crate) fn attach(
    program: &mut SchedClassifier,
    interface: &str,
    index: u32,
    priority: u16,
) -> Result<(), ProgramError> {
    match qdisc::add_ingress(index) {
        // A clsact qdisc, which has an ingress as well, is as good.
        Err(error) if error.raw_os_error() == Some(libc::EEXIST) => {}
        other => other?,
    }
    let options = NlOptions { priority, handle: HANDLE, classid: None };
    let created =
        program.attach_with_options(interface, TcAttachType::Ingress, TcAttachOptions::Netlink(options));
    let id = match created {
        Err(ProgramError::TcError(error)) if errno(&error) == Some(libc::EEXIST) => {
            program.attach_to_link(present(interface, priority)?)?
        }
        other => other?,
    };
    // aya would take the filter off when this process ends in order.
    mem::forget(program.take_link(id)?);
    Ok(())
}

/// Takes our filter off the interface; fine when there is none, and when the interface went meanwhile.
pub(crate) fn detach(interface: &str, priority: u16) -> Result<(), ProgramError> {
    let done = present(interface, priority).and_then(|link| link.detach());
    let errno = match &done {
        Err(ProgramError::TcError(error)) => errno(error),
        Err(ProgramError::NetlinkError(error)) => error.raw_os_error(),
        _ => None,
    };
    match errno {
        // EINVAL: no such qdisc.
        Some(libc::ENOENT | libc::ENODEV | libc::EINVAL) => Ok(()),
        _ => done,
    }
}

fn present(interface: &str, priority: u16) -> Result<SchedClassifierLink, ProgramError> {
    SchedClassifierLink::attached(interface, TcAttachType::Ingress, priority, HANDLE, None)
        .map_err(|error| TcError::from(error).into())
}

pub(crate) fn errno(error: &TcError) -> Option<i32> {
    match error {
        TcError::NetlinkError(error) => error.raw_os_error(),
        TcError::IoError(error) => io::Error::raw_os_error(error),
        _ => None,
    }
}
