//! Which brackets of a JSON text are open? Told byte by byte, for texts that may be cut off or hold what is no JSON. Pure.
//!
//! It finds where a value ends; whether the value is right is its parser's to say.

/// Which brackets are open.
#[derive(Default)]
pub struct Brackets {
    pub depth: usize,
    /// For each of the innermost 128 that are open whether it is a list.
    lists: u128,
    pub in_text: bool,
    escaped: bool,
    /// The last byte outside of texts that is no space; a text is its closing quote.
    last: u8,
    /// Whether only spaces came since the line began.
    at_line_start: bool,
}

/// What a byte did.
pub enum Step {
    Inside,
    /// The outermost bracket is closed.
    Closed,
    ListBegins,
    /// No value goes on like this.
    Impossible,
}

impl Brackets {
    /// As within one object.
    pub fn within() -> Brackets {
        Brackets { depth: 1, ..Brackets::default() }
    }

    /// Goes on by a byte.
    pub fn step(&mut self, byte: u8) -> Step {
        if self.in_text {
            return self.text(byte);
        }
        let opens_line = self.at_line_start;
        match byte {
            b'\n' | b'\r' => self.at_line_start = true,
            b' ' | b'\t' => {}
            _ => self.at_line_start = false,
        }
        let step = match byte {
            b'"' => {
                self.in_text = true;
                Step::Inside
            }
            // Where lines begin with an object each, the one before was cut off.
            b'{' if opens_line && !self.takes_value() => return Step::Impossible,
            b'{' | b'[' => {
                self.depth += 1;
                self.lists = self.lists << 1 | u128::from(byte == b'[');
                if byte == b'[' { Step::ListBegins } else { Step::Inside }
            }
            b'}' | b']' => {
                self.depth = self.depth.saturating_sub(1);
                self.lists >>= 1;
                if self.depth == 0 { Step::Closed } else { Step::Inside }
            }
            _ => Step::Inside,
        };
        if !byte.is_ascii_whitespace() {
            self.last = byte;
        }
        step
    }

    fn text(&mut self, byte: u8) -> Step {
        match byte {
            _ if self.escaped => self.escaped = false,
            b'\\' => self.escaped = true,
            b'"' => self.in_text = false,
            // JSON's texts have no line ends.
            b'\n' | b'\r' => return Step::Impossible,
            _ => {}
        }
        Step::Inside
    }

    /// Whether a value may stand here.
    fn takes_value(&self) -> bool {
        let in_list = self.lists & 1 == 1;
        self.last == b':' || in_list && matches!(self.last, b'[' | b',')
    }
}
