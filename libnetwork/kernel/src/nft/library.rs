//! libnftnl's objects, each freed by its owner. All unsafe code about nftables is in this file.
//!
//! By nftnl-sys alone: nftnl's safe types have neither verdict maps, concatenations and notes on sets, nor dumps, and a
//! batch of theirs numbers its messages itself, by which our socket tells which change an error is about.

use std::{
    ffi::{CStr, CString, c_void},
    ptr::NonNull,
    slice,
};

use nftnl_sys as sys;

use crate::netlink::{Message, Request};

/// Bytes for a message without its expressions: names and notes have at most 256 each (NFT_NAME_MAXLEN,
/// NFT_USERDATA_MAXLEN), and keys 64 (NFT_DATA_VALUE_MAXLEN).
const ROOM: usize = 4096;
/// More than any expression takes, with its names and values.
const ROOM_FOR_EXPRESSION: usize = 1024;
/// Without the final zero.
const LONGEST_NAME: usize = 255;
const LONGEST_KEY: usize = 64;

/// What all objects that messages are made of have in common.
macro_rules! object {
    ($name:ident: $raw:ident, $alloc:ident, $free:ident, $is_set:ident, $set_str:ident, $set_u32:ident,
     $get_str:ident, $get_u32:ident, $build:ident, $parse:ident) => {
        pub(super) struct $name {
            raw: NonNull<sys::$raw>,
            expressions: usize,
        }

        // Not every object needs all of them.
        #[allow(dead_code)]
        impl $name {
            pub(super) fn new() -> Self {
                // SAFETY: it takes nothing, and what it returns is ours until we free it.
                $name { raw: allocated(unsafe { sys::$alloc() }), expressions: 0 }
            }

            pub(super) fn text(&mut self, attribute: u32, value: &str) -> &mut Self {
                let value = c_string(value);
                // SAFETY: the object is alive and ours alone; the string is copied.
                unsafe { sys::$set_str(self.raw.as_ptr(), attribute as u16, value.as_ptr()) };
                self
            }

            pub(super) fn number(&mut self, attribute: u32, value: u32) -> &mut Self {
                // SAFETY: the object is alive and ours alone.
                unsafe { sys::$set_u32(self.raw.as_ptr(), attribute as u16, value) };
                self
            }

            /// What is not UTF-8 is nothing of ours.
            pub(super) fn get_text(&self, attribute: u32) -> Option<&str> {
                // SAFETY: the object is alive. The string is its own, ends with a zero, and stays until the object is
                // changed or freed, for which the borrow has to end.
                let text = unsafe {
                    let text = sys::$get_str(self.raw.as_ptr(), attribute as u16);
                    (!text.is_null()).then(|| CStr::from_ptr(text))
                };
                text?.to_str().ok()
            }

            pub(super) fn get_number(&self, attribute: u32) -> Option<u32> {
                let raw = self.raw.as_ptr();
                // SAFETY: the object is alive, and the attribute is read only where it is set.
                unsafe { sys::$is_set(raw, attribute as u16).then(|| sys::$get_u32(raw, attribute as u16)) }
            }

            pub(super) fn request(&mut self, message: i32, flags: i32, family: u8) -> Request {
                let room = ROOM + self.expressions * ROOM_FOR_EXPRESSION;
                build(room, message, flags, family, |header| {
                    // SAFETY: both are alive, and behind the header is room for all that the object has.
                    unsafe { sys::$build(header, self.raw.as_ptr()) }
                })
            }

            /// None when libnftnl does not understand it.
            pub(super) fn read(message: &Message<'_>) -> Option<Self> {
                let object = Self::new();
                let understood = read(message, |header| {
                    // SAFETY: the header begins a whole message, and the object is alive and ours alone.
                    unsafe { sys::$parse(header, object.raw.as_ptr()) }
                });
                understood.then_some(object)
            }
        }

        impl Drop for $name {
            fn drop(&mut self) {
                // SAFETY: nobody else has it, and nobody uses it any more.
                unsafe { sys::$free(self.raw.as_ptr()) }
            }
        }
    };
}

object!(Table: nftnl_table, nftnl_table_alloc, nftnl_table_free, nftnl_table_is_set, nftnl_table_set_str,
    nftnl_table_set_u32, nftnl_table_get_str, nftnl_table_get_u32, nftnl_table_nlmsg_build_payload,
    nftnl_table_nlmsg_parse);
object!(Chain: nftnl_chain, nftnl_chain_alloc, nftnl_chain_free, nftnl_chain_is_set, nftnl_chain_set_str,
    nftnl_chain_set_u32, nftnl_chain_get_str, nftnl_chain_get_u32, nftnl_chain_nlmsg_build_payload,
    nftnl_chain_nlmsg_parse);
object!(Rule: nftnl_rule, nftnl_rule_alloc, nftnl_rule_free, nftnl_rule_is_set, nftnl_rule_set_str,
    nftnl_rule_set_u32, nftnl_rule_get_str, nftnl_rule_get_u32, nftnl_rule_nlmsg_build_payload,
    nftnl_rule_nlmsg_parse);
object!(Set: nftnl_set, nftnl_set_alloc, nftnl_set_free, nftnl_set_is_set, nftnl_set_set_str,
    nftnl_set_set_u32, nftnl_set_get_str, nftnl_set_get_u32, nftnl_set_nlmsg_build_payload,
    nftnl_set_nlmsg_parse);
// The same object, as messages about elements have it.
object!(Elements: nftnl_set, nftnl_set_alloc, nftnl_set_free, nftnl_set_is_set, nftnl_set_set_str,
    nftnl_set_set_u32, nftnl_set_get_str, nftnl_set_get_u32, nftnl_set_elems_nlmsg_build_payload,
    nftnl_set_elems_nlmsg_parse);

impl Rule {
    /// At most 255 bytes.
    pub(super) fn note(&mut self, note: &[u8]) -> &mut Self {
        let (note, length) = sized(note, LONGEST_NAME);
        // SAFETY: the object is alive and ours alone; as many bytes as we say are copied.
        unsafe { sys::nftnl_rule_set_data(self.raw.as_ptr(), sys::NFTNL_RULE_USERDATA as u16, note, length) };
        self
    }

    pub(super) fn get_note(&self) -> &[u8] {
        let mut length = 0;
        // SAFETY: the object is alive. The bytes are its own, as many as it says, and stay until it is changed or freed.
        unsafe {
            let attribute = sys::NFTNL_RULE_USERDATA as u16;
            borrowed(sys::nftnl_rule_get_data(self.raw.as_ptr(), attribute, &raw mut length), &length)
        }
    }

    pub(super) fn add(&mut self, expression: Expression) {
        self.expressions += 1;
        // SAFETY: both are alive; from here on the expression is the rule's, which is why we forget it.
        unsafe { sys::nftnl_rule_add_expr(self.raw.as_ptr(), expression.0.as_ptr()) };
        std::mem::forget(expression);
    }
}

impl Set {
    /// Notes, and the lengths of a concatenation's fields (at most 16, one byte each).
    pub(super) fn bytes(&mut self, attribute: u32, value: &[u8]) -> &mut Self {
        let most = if attribute == sys::NFTNL_SET_DESC_CONCAT { 16 } else { LONGEST_NAME };
        let (value, length) = sized(value, most);
        // SAFETY: the object is alive and ours alone; as many bytes as we say are copied, and they fit.
        unsafe { sys::nftnl_set_set_data(self.raw.as_ptr(), attribute as u16, value, length) };
        self
    }
}

impl Elements {
    pub(super) fn add(&mut self, element: &SetElement) -> &mut Self {
        let bytes = [
            (sys::NFTNL_SET_ELEM_KEY, Some(&element.key)),
            (sys::NFTNL_SET_ELEM_KEY_END, element.end.as_ref()),
            (sys::NFTNL_SET_ELEM_DATA, element.data.as_ref()),
        ];
        // SAFETY: the element is alive, and the set's from the last call on; what is given is copied, and fits.
        unsafe {
            let raw = allocated(sys::nftnl_set_elem_alloc()).as_ptr();
            for (attribute, bytes) in bytes {
                if let Some(bytes) = bytes {
                    let (bytes, length) = sized(bytes, LONGEST_KEY);
                    sys::nftnl_set_elem_set(raw, attribute as u16, bytes, length);
                }
            }
            if let Some((verdict, chain)) = &element.verdict {
                sys::nftnl_set_elem_set_u32(raw, sys::NFTNL_SET_ELEM_VERDICT as u16, *verdict);
                if let Some(chain) = chain {
                    let chain = c_string(chain);
                    sys::nftnl_set_elem_set_str(raw, sys::NFTNL_SET_ELEM_CHAIN as u16, chain.as_ptr());
                }
            }
            sys::nftnl_set_elem_add(self.raw.as_ptr(), raw);
        }
        self
    }

    pub(super) fn list(&self) -> Vec<SetElement> {
        let mut found = Vec::new();
        let verdict = sys::NFTNL_SET_ELEM_VERDICT as u16;
        // SAFETY: the set is alive and does not change as long as the iterator is. Each element is the set's, and what it
        // says of itself is copied at once.
        unsafe {
            let iterator = sys::nftnl_set_elems_iter_create(self.raw.as_ptr());
            while !iterator.is_null() {
                let element = sys::nftnl_set_elems_iter_next(iterator);
                if element.is_null() {
                    sys::nftnl_set_elems_iter_destroy(iterator);
                    break;
                }
                let bytes = |attribute: u32| {
                    let attribute = attribute as u16;
                    let mut length = 0;
                    sys::nftnl_set_elem_is_set(element, attribute).then(|| {
                        let bytes = sys::nftnl_set_elem_get(element, attribute, &raw mut length);
                        borrowed(bytes, &length).to_vec()
                    })
                };
                let has_verdict = sys::nftnl_set_elem_is_set(element, verdict);
                let led = sys::nftnl_set_elem_is_set(element, sys::NFTNL_SET_ELEM_CHAIN as u16).then(|| {
                    let name = sys::nftnl_set_elem_get_str(element, sys::NFTNL_SET_ELEM_CHAIN as u16);
                    CStr::from_ptr(name).to_string_lossy().into_owned()
                });
                found.push(SetElement {
                    key: bytes(sys::NFTNL_SET_ELEM_KEY).unwrap_or_default(),
                    end: bytes(sys::NFTNL_SET_ELEM_KEY_END),
                    data: bytes(sys::NFTNL_SET_ELEM_DATA),
                    verdict: has_verdict.then(|| (sys::nftnl_set_elem_get_u32(element, verdict), led)),
                });
            }
        }
        found
    }
}

/// An element as messages have it: values as registers hold them.
#[derive(Debug, Default)]
pub(super) struct SetElement {
    pub(super) key: Vec<u8>,
    /// The last key, in a set of ranges.
    pub(super) end: Option<Vec<u8>>,
    /// What the key leads to: bytes, or a verdict.
    pub(super) data: Option<Vec<u8>>,
    /// Its number, and the chain that it leads to.
    pub(super) verdict: Option<(u32, Option<String>)>,
}

/// One step of a rule.
pub(super) struct Expression(NonNull<sys::nftnl_expr>);

impl Expression {
    /// By the kernel's name for it.
    pub(super) fn new(name: &'static CStr) -> Self {
        // SAFETY: the name ends with a zero. All names that we use are known to libnftnl, or else this is null and found.
        Expression(allocated(unsafe { sys::nftnl_expr_alloc(name.as_ptr()) }))
    }

    pub(super) fn number(self, attribute: u32, value: u32) -> Self {
        // SAFETY: the expression is alive and ours alone.
        unsafe { sys::nftnl_expr_set_u32(self.0.as_ptr(), attribute as u16, value) };
        self
    }

    /// At most 64 bytes.
    pub(super) fn bytes(self, attribute: u32, value: &[u8]) -> Self {
        let (value, length) = sized(value, LONGEST_KEY);
        // SAFETY: the expression is alive and ours alone; as many bytes as we say are copied, and they fit.
        unsafe { sys::nftnl_expr_set(self.0.as_ptr(), attribute as u16, value, length) };
        self
    }

    pub(super) fn text(self, attribute: u32, value: &str) -> Self {
        let value = c_string(value);
        // SAFETY: the expression is alive and ours alone; the string is copied.
        unsafe { sys::nftnl_expr_set_str(self.0.as_ptr(), attribute as u16, value.as_ptr()) };
        self
    }
}

impl Drop for Expression {
    fn drop(&mut self) {
        // SAFETY: one that a rule took over is never dropped.
        unsafe { sys::nftnl_expr_free(self.0.as_ptr()) }
    }
}

/// The first and the last message of a transaction.
pub(super) fn batch() -> [Request; 2] {
    [sys::nftnl_batch_begin, sys::nftnl_batch_end].map(|mark| {
        let mut buffer = vec![0u32; ROOM / 4];
        // SAFETY: the buffer is aligned for a header, and has room for it and struct nfgenmsg.
        unsafe { finished(mark(buffer.as_mut_ptr().cast(), 0)) }
    })
}

fn build(
    room: usize,
    message: i32,
    flags: i32,
    family: u8,
    fill: impl FnOnce(*mut libc::nlmsghdr),
) -> Request {
    let mut buffer = vec![0u32; room.div_ceil(4)];
    let start = buffer.as_mut_ptr().cast();
    // SAFETY: the buffer is aligned for a header, has room for it and struct nfgenmsg, and lives until the message has been
    // copied out of it.
    unsafe {
        let header = sys::nftnl_nlmsg_build_hdr(start, message as u16, family.into(), flags as u16, 0);
        fill(header);
        finished(header)
    }
}

/// # Safety
/// A message that libnftnl has built, whose length is in its header.
unsafe fn finished(header: *const libc::nlmsghdr) -> Request {
    // SAFETY: as the caller says.
    let message = unsafe { slice::from_raw_parts(header.cast::<u8>(), (*header).nlmsg_len as usize) };
    Request { bytes: message.to_vec() }
}

fn read(message: &Message<'_>, parse: impl FnOnce(*const libc::nlmsghdr) -> i32) -> bool {
    // Aligned as libmnl wants it, wherever it came from.
    let mut aligned = vec![0u32; message.bytes.len().div_ceil(4)];
    for (word, bytes) in aligned.iter_mut().zip(message.bytes.chunks(4)) {
        let mut padded = [0; 4];
        padded[..bytes.len()].copy_from_slice(bytes);
        *word = u32::from_ne_bytes(padded);
    }
    parse(aligned.as_ptr().cast()) >= 0
}

/// # Safety
/// `data` is null, or has `length` bytes that stay as long as what `length` is borrowed from is not touched by libnftnl.
unsafe fn borrowed<'a>(data: *const c_void, length: &u32) -> &'a [u8] {
    if data.is_null() {
        return &[];
    }
    // SAFETY: as the caller says.
    unsafe { slice::from_raw_parts(data.cast(), *length as usize) }
}

fn sized(bytes: &[u8], most: usize) -> (*const c_void, u32) {
    (bytes.as_ptr().cast(), bytes.len().min(most) as u32)
}

/// What has a zero in it names nothing; what is too long for the kernel stays so, in less memory.
fn c_string(value: &str) -> CString {
    let bytes = &value.as_bytes()[..value.len().min(LONGEST_NAME)];
    CString::new(bytes).unwrap_or_default()
}

fn allocated<T>(raw: *mut T) -> NonNull<T> {
    NonNull::new(raw).expect("libnftnl has memory, and knows the expressions of nftables")
}
