//! One question to a netlink family of the kernel, and its answers.

use std::{fmt::Debug, io};

use rtnetlink::{
    packet_core::{
        NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST, NetlinkDeserializable, NetlinkHeader, NetlinkMessage, NetlinkPayload,
        NetlinkSerializable,
    },
    sys::{Socket, SocketAddr},
};

/// Bytes that the kernel fills at most with one part of a listing.
const PART: usize = 1 << 16;
/// Seconds that the kernel has for each part.
const PATIENCE: libc::time_t = 5;
/// Octets that messages are aligned to.
const ALIGN: usize = 4;

/// A connection to one netlink family.
pub struct Netlink(Socket);

impl Netlink {
    /// Opens it.
    ///
    /// # Errors
    /// `EPROTONOSUPPORT` when the kernel has no such family.
    pub fn open(family: isize) -> io::Result<Self> {
        let mut socket = Socket::new(family)?;
        socket.bind_auto()?;
        socket.connect(&SocketAddr::new(0, 0))?;
        // An answer that was lost must not stop the daemon for good.
        let fd = std::os::fd::AsRawFd::as_raw_fd(&socket);
        let patience = libc::timeval { tv_sec: PATIENCE, tv_usec: 0 };
        let (value, length) = ((&raw const patience).cast(), size_of::<libc::timeval>() as libc::socklen_t);
        // SAFETY: `fd` is open for as long as `socket` lives, and `value` is a timeval of `length` bytes.
        if unsafe { libc::setsockopt(fd, libc::SOL_SOCKET, libc::SO_RCVTIMEO, value, length) } < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(Self(socket))
    }

    /// Asks for a listing, and hands on each of its messages.
    ///
    /// # Errors
    /// What the kernel says; `InvalidData` for what is no message.
    pub fn list<M>(&self, question: M, each: impl FnMut(M)) -> io::Result<()>
    where
        M: NetlinkSerializable + NetlinkDeserializable + Debug,
    {
        self.send(question, NLM_F_REQUEST | NLM_F_DUMP)?;
        self.receive(true, each)
    }

    /// Asks for one thing.
    ///
    /// # Errors
    /// As [`Netlink::list`].
    pub fn ask<M>(&self, question: M) -> io::Result<Option<M>>
    where
        M: NetlinkSerializable + NetlinkDeserializable + Debug,
    {
        self.send(question, NLM_F_REQUEST)?;
        let mut answer = None;
        self.receive(false, |message| answer = Some(message))?;
        Ok(answer)
    }

    /// Asks for something to be done, and waits until it is.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn order<M>(&self, order: M) -> io::Result<()>
    where
        M: NetlinkSerializable + NetlinkDeserializable + Debug,
    {
        self.send(order, NLM_F_REQUEST | NLM_F_ACK)?;
        self.receive::<M>(true, drop)
    }

    fn send<M: NetlinkSerializable>(&self, question: M, flags: u16) -> io::Result<()> {
        let mut header = NetlinkHeader::default();
        header.flags = flags;
        let mut message = NetlinkMessage::new(header, NetlinkPayload::InnerMessage(question));
        message.finalize();
        let mut bytes = vec![0; message.buffer_len()];
        message.serialize(&mut bytes);
        self.0.send(&bytes, 0).map(drop)
    }

    /// Reads parts until the listing is at its end, or one answer is there.
    fn receive<M>(&self, listing: bool, mut each: impl FnMut(M)) -> io::Result<()>
    where
        M: NetlinkDeserializable + Debug,
    {
        let invalid = |e: &dyn std::fmt::Display| io::Error::new(io::ErrorKind::InvalidData, e.to_string());
        let mut part = Vec::with_capacity(PART);
        loop {
            part.clear();
            self.0.recv(&mut part, 0).map_err(|e| match e.kind() {
                io::ErrorKind::WouldBlock => {
                    io::Error::new(io::ErrorKind::TimedOut, format!("the kernel has not answered for {PATIENCE} s"))
                }
                _ => e,
            })?;
            let mut rest = part.as_slice();
            while !rest.is_empty() {
                let message = NetlinkMessage::<M>::deserialize(rest).map_err(|e| invalid(&e))?;
                match message.payload {
                    NetlinkPayload::Done(done) if done.code < 0 => {
                        return Err(io::Error::from_raw_os_error(-done.code));
                    }
                    NetlinkPayload::Done(_) => return Ok(()),
                    NetlinkPayload::Error(e) => return if e.code.is_some() { Err(e.to_io()) } else { Ok(()) },
                    NetlinkPayload::Overrun(_) => return Err(invalid(&"the kernel's listing overran")),
                    NetlinkPayload::InnerMessage(inner) => each(inner),
                    _ => {}
                }
                let length = (message.header.length as usize).next_multiple_of(ALIGN);
                rest = rest.get(length.max(ALIGN)..).unwrap_or_default();
            }
            if !listing {
                return Ok(());
            }
        }
    }
}
