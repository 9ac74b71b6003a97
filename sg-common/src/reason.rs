//! Why a packet passed or dropped: one numbered, append-only enum.
//!
//! Numbers are ABI (counters and events carry them). A retired reason keeps
//! its number.

/// Pass or drop.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// The packet is silently discarded.
    Drop = 0,
    /// The packet goes on to the next program and the stack.
    Accept = 1,
}

impl Verdict {
    /// `accept` or `drop`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Accept => "accept",
            Self::Drop => "drop",
        }
    }
    /// From its number; anything unknown is a drop.
    #[inline(always)]
    pub const fn from_u8(v: u8) -> Self {
        if v == 1 { Self::Accept } else { Self::Drop }
    }
}

macro_rules! reasons {
    ($($(#[doc = $doc:literal])+ $name:ident = $num:literal, $text:literal;)+) => {
        /// Why a packet passed or dropped.
        #[repr(u8)]
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Reason { $($(#[doc = $doc])+ $name = $num,)+ }

        impl Reason {
            /// All reasons, in numeric order.
            pub const ALL: &'static [Reason] = &[$(Reason::$name,)+];
            /// The name in listings and in `explain`.
            pub const fn name(self) -> &'static str {
                match self { $(Reason::$name => $text,)+ }
            }
            /// One sentence of what it means.
            pub const fn describe(self) -> &'static str {
                match self { $(Reason::$name => concat!($($doc,)+).trim_ascii(),)+ }
            }
            /// From its number.
            pub fn from_u8(v: u8) -> Option<Reason> {
                Self::ALL.iter().copied().find(|r| *r as u8 == v)
            }
        }
    };
}

reasons! {
    /// A rule of a security group decided.
    Rule = 1, "rule";
    /// No rule matched: the direction's default decided.
    Default = 2, "default";
    /// The remote address is a member of a shared group with inner access Accept.
    IntraGroup = 3, "intra_group";
    /// Outbound TCP to port 25 at a public address; use 465 or 587, or have the administrator set `smtp_egress: open`.
    Smtp = 4, "smtp";
    /// Traffic that keeps addresses, neighbours and multicast alive is always accepted.
    Essential = 5, "essential";
    /// Outbound traffic to the provider's metadata address is always accepted.
    Provider = 6, "provider";
    /// An administrator's failsafe admitted it.
    Failsafe = 7, "failsafe";
    /// A guest used an address that is not its own.
    Spoofed = 8, "spoofed";
    /// Local and remote address are the same.
    Land = 9, "land";
    /// The interface is bound but has no policy.
    NoPolicy = 10, "no_policy";
    /// A header that makes no sense in a way no other reason names.
    Malformed = 11, "malformed";
    /// The packet belongs to an accepted flow.
    Established = 12, "established";
    /// An ICMP error about an accepted flow.
    Related = 13, "related";
    /// An inbound SYN-ACK or a RST that belongs to no flow.
    NoFlow = 14, "no_flow";
    /// A guest sent what only a router or a DHCP server sends.
    Rogue = 15, "rogue";
    /// The packet's flow was cut by a policy change.
    Cut = 16, "cut";
    /// A later fragment, treated as its first one was.
    Fragment = 17, "fragment";
    /// A later fragment whose first was not seen.
    FragmentUnseen = 18, "fragment_unseen";
    /// A first fragment that does not hold the whole transport header.
    FragmentShort = 19, "fragment_short";
    /// A later fragment that reaches into the first one's transport header.
    FragmentOverlap = 20, "fragment_overlap";
    /// More VLAN tags than are walked.
    VlanDepth = 21, "vlan_depth";
    /// More IPv6 extension headers than are walked.
    ExtensionDepth = 22, "extension_depth";
    /// An Ethernet type that is neither IP nor ARP.
    Ethertype = 23, "ethertype";
    /// Shorter than the header it must start with.
    Truncated = 24, "truncated";
    /// An IP header whose version or header length is wrong.
    IpHeader = 25, "ip_header";
    /// An IP length that disagrees with the packet.
    IpLength = 26, "ip_length";
    /// A transport header that does not fit the IP length, or has a wrong length of its own.
    Transport = 27, "transport";
    /// TCP flags that no stack sends together.
    TcpFlags = 28, "tcp_flags";
    /// An ARP packet that is not Ethernet and IPv4.
    ArpMalformed = 29, "arp_malformed";
    /// Passed because the interface only observes yet.
    Observed = 30, "observed";
    /// The program could not reach a table it needs.
    TableMissing = 31, "table_missing";
    /// An IPv6 jumbogram, or an extension header that is not understood.
    ExtensionHeader = 32, "extension_header";
    /// The program's two ways of judging a packet disagree: a defect, please report it.
    Disagreement = 33, "disagreement";
}

/// Slots of a reason counter: two (drop, accept) for each possible number.
pub const REASON_SLOTS: u32 = 64;

const _: () = {
    let mut i = 0;
    while i < Reason::ALL.len() {
        assert!(Reason::ALL[i] as usize == i + 1, "reasons are numbered without gaps");
        i += 1;
    }
    assert!((Reason::ALL.len() as u32) < REASON_SLOTS);
};
