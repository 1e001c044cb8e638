//! A person who gives commands while all of this goes on.

use std::{
    process::{Child, Stdio},
    time::{Duration, Instant},
};

use super::{Done, Size, count, machines::Machines};
use crate::support::dice::Dice;

/// How long a command may take, whatever is in its way.
const PATIENCE: Duration = Duration::from_secs(240);

pub struct Operator {
    size: Size,
    commands: Vec<(String, Child, Instant)>,
}

impl Operator {
    pub fn new(size: Size) -> Operator {
        Operator { size, commands: Vec::new() }
    }

    /// Gives one of the commands. It may be told to wait or that something is in the way, but it ends.
    pub fn command(&mut self, machines: &Machines, dice: &mut Dice, done: &Done) {
        count(&done.commands);
        let person = format!("u{}", dice.below(self.size.people as usize));
        let args: &[&str] = match dice.below(20) {
            0..=2 => return machines.reload(),
            3..=6 => &["resync", ["high0", "low0", "buyers"][dice.below(3)], "--detach"],
            7..=10 => &["release", "guarded"],
            11..=13 => &["prune"],
            14..=15 => {
                count(&done.forgets);
                &["forget", &person]
            }
            16 => {
                count(&done.starts);
                &["unhalt", "kafka", "--start-over"]
            }
            17 => &["unhalt", "kafka", "--forget-topic", &machines.world.topic],
            _ => &["status"],
        };
        let mut command = machines.command(args);
        let child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("it starts");
        self.commands.push((args.join(" "), child, Instant::now()));
    }

    /// Looks what became of commands.
    pub fn look(&mut self) {
        self.commands.retain_mut(|(name, child, since)| match child.try_wait().expect("a child of ours") {
            None => {
                assert!(since.elapsed() < PATIENCE, "`{name}` does not end");
                true
            }
            Some(status) => {
                let mut said = String::new();
                std::io::Read::read_to_string(&mut child.stderr.take().expect("piped"), &mut said).ok();
                // 1 is a defect of the program, 101 a panic; the rest says what to do.
                assert!(matches!(status.code(), Some(0 | 3..=6)), "`{name}` ends with {status}: {said}");
                false
            }
        });
    }

    /// Waits for all commands that were given.
    pub fn end(mut self) {
        while !self.commands.is_empty() {
            self.look();
            std::thread::park_timeout(Duration::from_millis(50));
        }
    }
}
