//! The filters of a clsact qdisc, in their order: one netlink dump.

use std::{
    io,
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
};

const RTM_NEWTFILTER: u16 = 44;
const RTM_GETTFILTER: u16 = 46;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const NLM_F_REQUEST: u16 = 1;
const NLM_F_DUMP: u16 = 0x300;
const TCA_OPTIONS: u16 = 2;
const TCA_BPF_NAME: u16 = 7;
const TCA_BPF_ID: u16 = 11;
const INGRESS: u32 = 0xffff_fff2;
const EGRESS: u32 = 0xffff_fff3;
/// Bytes of a message's head, and of the `tcmsg` behind it.
const HEAD: usize = 16;
const TCMSG: usize = 20;
/// Seconds that the kernel has for its answer.
const PATIENCE: libc::time_t = 2;

/// A filter.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// The lower one is asked first.
    pub priority: u16,
    /// Names it within its priority.
    pub handle: u32,
    /// Name of its program, if it is one of BPF.
    pub name: Option<String>,
    /// Id of that program.
    pub program: Option<u32>,
}

fn number<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at + N)?.try_into().ok()
}
fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    number(bytes, at).map(u16::from_ne_bytes)
}
fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    number(bytes, at).map(u32::from_ne_bytes)
}

/// Calls `f` with type and value of each attribute.
fn attributes(mut bytes: &[u8], mut f: impl FnMut(u16, &[u8])) {
    while let (Some(length), Some(kind)) = (u16_at(bytes, 0), u16_at(bytes, 2)) {
        let Some(value) = bytes.get(4..usize::from(length)) else { return };
        f(kind & 0x3fff, value);
        bytes = bytes.get(usize::from(length).next_multiple_of(4)..).unwrap_or_default();
    }
}

/// A filter from the body of a message; `None` for the head of a priority.
fn filter(body: &[u8]) -> Option<Filter> {
    let (handle, info) = (u32_at(body, 8)?, u32_at(body, 16)?);
    let mut filter = Filter { priority: (info >> 16) as u16, handle, ..Filter::default() };
    attributes(body.get(TCMSG..)?, |kind, value| {
        if kind == TCA_OPTIONS {
            attributes(value, |kind, value| match kind {
                TCA_BPF_NAME => {
                    let name = value.split(|b| *b == 0).next().unwrap_or_default();
                    filter.name = Some(String::from_utf8_lossy(name).into_owned());
                }
                TCA_BPF_ID => filter.program = u32_at(value, 0),
                _ => {}
            });
        }
    });
    (handle != 0).then_some(filter)
}

/// Takes the filters out of one datagram; true when it was the last.
fn take(mut bytes: &[u8], filters: &mut Vec<Filter>) -> io::Result<bool> {
    while let (Some(length), Some(kind)) = (u32_at(bytes, 0), u16_at(bytes, 4)) {
        let length = length as usize;
        let Some(body) = bytes.get(HEAD..length) else { return Err(io::ErrorKind::InvalidData.into()) };
        match kind {
            NLMSG_DONE => return Ok(true),
            NLMSG_ERROR => {
                let code = u32_at(body, 0).unwrap_or_default() as i32;
                return Err(io::Error::from_raw_os_error(-code));
            }
            RTM_NEWTFILTER => filters.extend(filter(body)),
            _ => {}
        }
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    Ok(false)
}

/// The filters of one direction of a device, in the order in which they are asked.
///
/// # Errors
/// What netlink says.
pub fn clsact(index: u32, ingress: bool) -> io::Result<Vec<Filter>> {
    // SAFETY: no memory is passed.
    let fd = unsafe { libc::socket(libc::AF_NETLINK, libc::SOCK_RAW | libc::SOCK_CLOEXEC, libc::NETLINK_ROUTE) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: a new descriptor that nobody else owns.
    let socket = unsafe { OwnedFd::from_raw_fd(fd) };
    let length = (HEAD + TCMSG) as u32;
    let mut request = length.to_ne_bytes().to_vec();
    request.extend([RTM_GETTFILTER, NLM_F_REQUEST | NLM_F_DUMP].map(u16::to_ne_bytes).as_flattened());
    // Sequence, port; family, index, handle, parent, priority and protocol.
    let parent = if ingress { INGRESS } else { EGRESS };
    request.extend([1, 0, 0, index, 0, parent, 0].map(u32::to_ne_bytes).as_flattened());
    let patience = libc::timeval { tv_sec: PATIENCE, tv_usec: 0 };
    let size = size_of_val(&patience) as libc::socklen_t;
    let mut buffer = vec![0u8; 1 << 16];
    // SAFETY: live buffers of the lengths given, and an option of its own size.
    let sent = unsafe {
        libc::setsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, libc::SO_RCVTIMEO, (&raw const patience).cast(), size);
        libc::send(socket.as_raw_fd(), request.as_ptr().cast(), request.len(), 0)
    };
    if sent < 0 {
        return Err(io::Error::last_os_error());
    }
    let mut filters = Vec::new();
    loop {
        // SAFETY: a live buffer of the length given.
        let got = unsafe { libc::recv(socket.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len(), 0) };
        if got < 0 {
            return Err(io::Error::last_os_error());
        }
        if got == 0 || take(&buffer[..got as usize], &mut filters)? {
            return Ok(filters);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cut_short_nothing_is_read_past_the_end() {
        let mut message = vec![0u8; HEAD + TCMSG];
        message[4] = RTM_NEWTFILTER as u8;
        message[HEAD + 8] = 1;
        message[HEAD + 18] = 1;
        let name = [12u16, TCA_BPF_NAME].map(u16::to_ne_bytes);
        let mut inner = name.as_flattened().to_vec();
        inner.extend(b"foreign\0");
        let mut outer = [inner.len() as u16 + 4, TCA_OPTIONS].map(u16::to_ne_bytes).as_flattened().to_vec();
        outer.extend(inner);
        message.extend(outer);
        let length = message.len() as u32;
        message[..4].copy_from_slice(&length.to_ne_bytes());
        let mut filters = Vec::new();
        assert!(!take(&message, &mut filters).unwrap());
        assert_eq!(filters, [Filter { priority: 1, handle: 1, name: Some("foreign".into()), program: None }]);
        for length in 0..message.len() {
            let _ = take(&message[..length], &mut filters);
        }
    }
}
