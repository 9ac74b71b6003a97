//! The stages as global functions: the verifier checks each once, by its
//! arguments alone, instead of along every path that leads to it.

use aya_ebpf::bindings::{__sk_buff, xdp_md};
use sg_common::{
    flow::Direction,
    generation::{Config, Generation},
};
use sg_ebpf::{Direct, Scratch, Stages, conntrack::Clock, fast::fast, packet::Bytes, verdict::Decision};

use super::{ctx, lookup::KernelMaps};

/// What a function says when an argument is null, which no caller passes.
const DECIDED: u32 = 1;

/// A stage over a packet, as a global function.
macro_rules! stage {
    ($name:ident, $stage:ident, $context:ty, $view:path $(, $generation:ident)?) => {
        #[unsafe(no_mangle)]
        #[inline(never)]
        extern "C" fn $name(context: *mut $context, $($generation: *const Generation,)? scratch: *mut Scratch) -> u32 {
            // SAFETY: null, or a map value that outlives the call.
            let Some(scratch) = (unsafe { scratch.as_mut() }) else { return DECIDED };
            // SAFETY: as above.
            $(let Some($generation) = (unsafe { $generation.as_ref() }) else { return DECIDED };)?
            let packet = <$view>::new(context);
            Direct { packet: &packet, tables: &KernelMaps::by_config() }.$stage($($generation,)? scratch) as u32
        }
    };
}

/// A stage that does not read the packet.
macro_rules! blind_stage {
    ($name:ident, $stage:ident $(, $generation:ident)?) => {
        #[unsafe(no_mangle)]
        #[inline(never)]
        extern "C" fn $name($($generation: *const Generation,)? scratch: *mut Scratch) -> u32 {
            // SAFETY: null, or a map value that outlives the call.
            let Some(scratch) = (unsafe { scratch.as_mut() }) else { return DECIDED };
            // SAFETY: as above.
            $(let Some($generation) = (unsafe { $generation.as_ref() }) else { return DECIDED };)?
            let packet = Bytes { data: &[], vlan: None, super_packet: false };
            Outcome::number(Direct { packet: &packet, tables: &KernelMaps::by_config() }.$stage($($generation,)? scratch))
        }
    };
}

/// What a stage returns, as a number.
trait Outcome {
    fn number(self) -> u32;
}
impl Outcome for bool {
    #[inline(always)]
    fn number(self) -> u32 {
        self as u32
    }
}
impl Outcome for () {
    #[inline(always)]
    fn number(self) -> u32 {
        DECIDED
    }
}

stage!(sg_parse_xdp, parse, xdp_md, ctx::Xdp, generation);
stage!(sg_parse_skb, parse, __sk_buff, ctx::Skb, generation);
stage!(sg_essentials_xdp, essentials, xdp_md, ctx::Xdp, generation);
stage!(sg_essentials_skb, essentials, __sk_buff, ctx::Skb, generation);
stage!(sg_quote_xdp, quote, xdp_md, ctx::Xdp);
stage!(sg_quote_skb, quote, __sk_buff, ctx::Skb);
blind_stage!(sg_related, related, generation);
blind_stage!(sg_track, track, generation);
blind_stage!(sg_follow, follow);
blind_stage!(sg_remember, remember);

/// Set in what the short way returns when it has decided.
const FAST: u64 = 1 << 63;

/// The stages over one kind of context.
macro_rules! stages {
    ($stages:ident, $context:ty, $view:path, $fast:ident, $parse:ident, $essentials:ident, $quote:ident) => {
        /// The short way on a stack frame of its own. Not a global function: the
        /// verifier follows its arguments, so that they need no checks here.
        #[inline(always)]
        fn $fast<const INBOUND: bool>(
            context: *mut $context,
            generation: &Generation,
            clock: Clock,
            config: &Config,
        ) -> u64 {
            let packet = <$view>::new(context);
            match fast::<INBOUND, _, _>(&packet, &KernelMaps::new(config), generation, clock) {
                Some(decision) => FAST | decision.pack(),
                None => 0,
            }
        }

        /// Stages over this context.
        pub struct $stages<'a> {
            context: *mut $context,
            config: &'a Config,
        }

        impl<'a> $stages<'a> {
            #[inline(always)]
            pub fn new(context: *mut $context, config: &'a Config) -> Self {
                Self { context, config }
            }
        }

        impl Stages for $stages<'_> {
            #[inline(always)]
            fn fast(&self, generation: &Generation, clock: Clock, direction: Direction) -> Option<Decision> {
                let packed = match direction {
                    Direction::Inbound => $fast::<true>(self.context, generation, clock, self.config),
                    Direction::Outbound => $fast::<false>(self.context, generation, clock, self.config),
                };
                (packed & FAST != 0).then(|| Decision::unpack(packed))
            }
            #[inline(always)]
            fn parse(&self, generation: &Generation, scratch: &mut Scratch) -> bool {
                $parse(self.context, generation, scratch) != 0
            }
            #[inline(always)]
            fn essentials(&self, generation: &Generation, scratch: &mut Scratch) -> bool {
                $essentials(self.context, generation, scratch) != 0
            }
            #[inline(always)]
            fn quote(&self, scratch: &mut Scratch) -> bool {
                $quote(self.context, scratch) != 0
            }
            #[inline(always)]
            fn related(&self, generation: &Generation, scratch: &mut Scratch) -> bool {
                sg_related(generation, scratch) != 0
            }
            #[inline(always)]
            fn track(&self, generation: &Generation, scratch: &mut Scratch) {
                sg_track(generation, scratch);
            }
            #[inline(always)]
            fn follow(&self, scratch: &mut Scratch) {
                sg_follow(scratch);
            }
            #[inline(always)]
            fn remember(&self, scratch: &mut Scratch) {
                sg_remember(scratch);
            }
        }
    };
}

stages!(Xdp, xdp_md, ctx::Xdp, fast_xdp, sg_parse_xdp, sg_essentials_xdp, sg_quote_xdp);
stages!(Skb, __sk_buff, ctx::Skb, fast_skb, sg_parse_skb, sg_essentials_skb, sg_quote_skb);
