//! Execution of a bounded piece, from outside the run loop: one instruction, some blocks, some turns.
//!
//! For tests only, of single instructions and of two processors in step. Nothing is delivered but by
//! [`Cpu::execute_turns`].

use super::Activity;
use crate::cpu::Cpu;
use crate::event::TripleFault;
use crate::fault::{Raised, Stop};
use crate::system::Clock;

/// How [`Cpu::execute_turns`] ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turns {
    /// All turns are over.
    Over,
    /// HLT.
    Halted,
    /// Triple fault.
    Shutdown,
}

impl Cpu {
    /// Executes one instruction and says why it stopped: for tests of single instructions. Nothing is
    /// delivered.
    pub fn execute_one(&mut self) -> Stop {
        self.run_blocks(true)
    }

    /// From now on time is the number of instructions executed, and a turn is `slice` of them: for tests
    /// that compare what two processors do.
    pub fn count_instructions(&mut self, slice: u32) {
        (self.clock, self.slice) = (Clock::counting(), slice);
    }

    /// Instructions executed so far; those of a block count when it begins.
    pub fn instructions(&self) -> u64 {
        self.executed
    }

    /// Writes code as an instruction of this vCPU would: for the same tests.
    pub fn write_code(&mut self, linear: u64, bytes: &[u8]) -> Result<(), Raised> {
        self.is_alone = true;
        self.store_bytes(linear, bytes, crate::memory::access::Through::Data)
    }

    /// Executes blocks until something stops them: for tests of runs of instructions. Nothing is delivered.
    pub fn execute_blocks(&mut self) -> Stop {
        self.run_blocks(false)
    }

    /// Executes for so many turns of the run loop, delivering what comes: for tests that bound what a
    /// guest of any bytes may take. `answer` is asked for what reads from outside find.
    pub fn execute_turns(&mut self, turns: u32, answer: &mut dyn FnMut() -> u64) -> Turns {
        for _ in 0..turns {
            match self.step() {
                Ok(None) if self.activity == Activity::Running => {}
                Ok(None) => return Turns::Halted,
                Ok(Some(_)) => self.replay.answer(answer()),
                Err(TripleFault) => return Turns::Shutdown,
            }
        }
        Turns::Over
    }
}
