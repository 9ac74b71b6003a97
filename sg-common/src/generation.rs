//! What an interface enforces: an immutable record that one u64 names.
//!
//! The daemon writes the record whole, then flips the interface's entry to
//! it. A packet reads the entry once and so sees wholly the old or wholly the
//! new generation.

/// An immutable generation record.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Generation {
    /// Jiffies from which on a generation that is on trial counts no longer, but
    /// [`Generation::previous`] does; [`CONFIRMED`] if it is not on trial, [`OVER`] once the
    /// program itself has seen the time pass. Confirming writes [`CONFIRMED`] in place.
    pub deadline: u32,
    /// Jiffies until which [`flags::OBSERVE`] counts: the program itself ends an
    /// observation that nobody else has ended, by writing 0 here, which is over for
    /// good. This and the deadline are all that is ever written in place.
    pub observe_until: u32,
    /// Index of the policy in the policy maps; [`NO_POLICY`] drops all but the essentials.
    pub policy: u32,
    /// Epoch of this generation; never reused.
    pub epoch: u32,
    /// Index of the generation that counts when the deadline has passed; 0 for none.
    pub previous: u32,
    /// A candidate policy judged beside this one, see [`crate::shadow::pack`]; 0 for none.
    pub shadow: u32,
    /// The slot's incarnation, see [`crate::flow::FlowKey::zone`].
    pub zone: u32,
    /// The slot: index of the interface's counters.
    pub slot: u32,
    /// See [`flags`].
    pub flags: u32,
    /// Jiffies until which older flows live on under [`on_change::DRAIN`].
    pub drain_until: u32,
    /// Seconds of an established TCP flow.
    pub tcp_established: u16,
    /// Seconds of a UDP flow.
    pub udp: u16,
    /// Seconds of a closed TCP flow.
    pub tcp_closed: u8,
    /// See [`on_change`].
    pub on_change: u8,
    /// The instance's MAC address, meaningful with [`flags::MAC_KNOWN`].
    pub mac: [u8; 6],
    /// Size class of the policy's flat value.
    pub policy_class: u32,
}

impl Generation {
    /// Whether [`flags::OBSERVE`], where it is set, still counts.
    #[inline(always)]
    pub const fn observes_at(&self, now: u32) -> bool {
        self.observe_until != 0 && self.observe_until.wrapping_sub(now) as i32 > 0
    }

    /// Whether what lived before it came, and it denies, still lives on.
    #[inline(always)]
    pub const fn drains_at(&self, now: u32) -> bool {
        self.on_change == on_change::DRAIN && self.drain_until.wrapping_sub(now) as i32 > 0
    }

    /// Whether a generation on trial, see [`Generation::deadline`], counts no longer.
    #[inline(always)]
    pub const fn is_over_at(&self, now: u32) -> bool {
        match self.deadline {
            CONFIRMED => false,
            OVER => true,
            deadline => deadline.wrapping_sub(now) as i32 <= 0,
        }
    }
}

const _: () = {
    assert!(size_of::<Generation>() == 56);
    assert!(core::mem::offset_of!(Generation, tcp_established) == 40);
    assert!(core::mem::offset_of!(Generation, policy_class) == 52);
};

/// [`Generation::deadline`] of one that is not on trial.
pub const CONFIRMED: u32 = 0;

/// [`Generation::deadline`] of one whose trial is over for good: left alone, the time
/// would lie ahead again once the clock has gone round half way.
pub const OVER: u32 = 1;

/// [`Generation::policy`] of an interface that is bound but has no policy.
pub const NO_POLICY: u32 = u32::MAX;

/// Bits of [`Generation::flags`].
pub mod flags {
    /// The instance is behind the device (tap, veth), not this machine.
    pub const GUEST: u32 = 1;
    /// Drop what a guest sends from addresses that are not its own.
    pub const SOURCE_CHECK: u32 = 2;
    /// Track and count, drop nothing, until [`super::Generation::observe_until`].
    pub const OBSERVE: u32 = 4;
    /// The device has no Ethernet header.
    pub const NO_L2: u32 = 8;
    /// Other Ethernet types pass.
    pub const ETHERTYPE_PASS: u32 = 16;
    /// [`super::Generation::mac`] is set.
    pub const MAC_KNOWN: u32 = 32;
    /// Always-accepted traffic is switched off by the administrator.
    pub const NO_ESSENTIALS: u32 = 64;
    /// Pass everything, as if the device were not protected. Looked at only where a
    /// generation is on trial, or is what one returns to.
    pub const PASS: u32 = 256;
    /// [`super::Generation::shadow`] names a candidate.
    pub const SHADOW: u32 = 512;
    /// Count the packets and bytes of each flow, see [`crate::account`].
    pub const ACCOUNT: u32 = 128;
}

/// What happens to flows that a change would deny.
pub mod on_change {
    /// They are cut.
    pub const CUT: u8 = 0;
    /// They live on.
    pub const KEEP: u8 = 1;
    /// They live until the drain time.
    pub const DRAIN: u8 = 2;
}

/// Settings all slots share.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Config {
    /// [`crate::ABI_VERSION`] of the daemon that wrote it.
    pub abi: u32,
    /// Kernel ticks a second.
    pub hz: u32,
    /// Jiffies added to the clock, for tests.
    pub time_offset: u32,
    /// See [`events`].
    pub events: u32,
    /// Half of the [`crate::filter`] that is asked.
    pub filter: u32,
}

const _: () = assert!(size_of::<Config>() == 20);

/// Values of [`Config::events`].
pub mod events {
    /// No events.
    pub const OFF: u32 = 0;
    /// What [`crate::watch::Tell`] asks for.
    pub const DECISIONS: u32 = 1;
    /// Every packet.
    pub const ALL: u32 = 2;
}

/// Whose address it is: key of the own-address table of guest interfaces.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct OwnKey {
    /// The slot's incarnation.
    pub zone: u32,
    /// The address.
    pub addr: crate::addr::Addr,
}

const _: () = assert!(size_of::<OwnKey>() == 20);
