//! A scripted device: expected actions of a host machine and their answers.
#![allow(clippy::unwrap_used, dead_code, unreachable_pub, reason = "tests; every binary uses another part")]

use core::time::Duration;

use spark_dfu::{
    SetupPacket,
    host::{Action, HostError, Input, Machine},
};

pub const ABORT: SetupPacket = SetupPacket::abort(0);
pub const CLRSTATUS: SetupPacket = SetupPacket::clr_status(0);
pub const GETSTATUS: SetupPacket = SetupPacket::get_status(0);

/// One expected action and its answer.
pub enum Turn<'a> {
    /// GETSTATUS answered with these bytes.
    Status([u8; 6]),
    /// GETSTATUS that fails.
    NoStatus(Input<'a>),
    /// An OUT request and its answer.
    Out(SetupPacket, Input<'a>),
    /// An IN request and its answer.
    In(SetupPacket, Input<'a>),
    /// A wait of this many milliseconds, kept.
    Wait(u64),
    /// A bus reset and its end.
    Reset(Input<'a>),
    /// A search for the device for this many milliseconds, and its end.
    Find(u64, Input<'a>),
}

pub fn play(machine: &mut dyn Machine, turns: &[Turn<'_>]) -> Result<(), HostError> {
    let mut now = Duration::from_secs(100);
    for (number, turn) in turns.iter().enumerate() {
        let input = match turn {
            Turn::Status(bytes) => {
                assert_eq!(machine.action(), Action::In { setup: GETSTATUS }, "turn {number}");
                Input::InDone(bytes)
            }
            Turn::NoStatus(input) => {
                assert_eq!(machine.action(), Action::In { setup: GETSTATUS }, "turn {number}");
                *input
            }
            Turn::Out(expected, input) => {
                match machine.action() {
                    Action::Out { setup, data } => {
                        assert_eq!(setup, *expected, "turn {number}");
                        assert_eq!(usize::from(setup.length), data.len(), "turn {number}");
                    }
                    other => panic!("turn {number}: {other:?}"),
                }
                *input
            }
            Turn::In(expected, input) => {
                assert_eq!(machine.action(), Action::In { setup: *expected }, "turn {number}");
                *input
            }
            Turn::Wait(ms) => {
                let until = now + Duration::from_millis(*ms);
                assert_eq!(machine.action(), Action::Wait { until }, "turn {number}");
                machine.handle(now, Input::TimeReached)?;
                let again = machine.action();
                assert_eq!(again, Action::Wait { until }, "turn {number}: an early call changes nothing");
                now = until;
                Input::TimeReached
            }
            Turn::Reset(input) => {
                assert_eq!(machine.action(), Action::ResetBus, "turn {number}");
                *input
            }
            Turn::Find(ms, input) => {
                let until = now + Duration::from_millis(*ms);
                assert_eq!(machine.action(), Action::FindAgain { until }, "turn {number}");
                machine.handle(now, Input::TimeReached)?;
                assert_eq!(machine.action(), Action::FindAgain { until }, "turn {number}: too early");
                now = until;
                *input
            }
        };
        machine.handle(now, input)?;
    }
    Ok(())
}

pub fn finished(machine: &dyn Machine) -> bool {
    machine.action() == Action::Finished
}
