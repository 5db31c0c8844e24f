//! Colours, where they may be used.

/// Colours or none.
#[derive(Debug, Clone, Copy)]
pub struct Paint {
    colours: bool,
}

impl Paint {
    /// With colours or without.
    #[must_use]
    pub const fn new(colours: bool) -> Self {
        Self { colours }
    }

    fn wrap(self, code: &str, text: &str) -> String {
        if self.colours { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text.to_owned() }
    }

    /// All is well.
    #[must_use]
    pub fn good(self, text: &str) -> String {
        self.wrap("32", text)
    }

    /// Something is wrong.
    #[must_use]
    pub fn bad(self, text: &str) -> String {
        self.wrap("31", text)
    }

    /// Something needs a look.
    #[must_use]
    pub fn notable(self, text: &str) -> String {
        self.wrap("33", text)
    }

    /// A label.
    #[must_use]
    pub fn label(self, text: &str) -> String {
        self.wrap("1", text)
    }

    /// Something beside the point.
    #[must_use]
    pub fn faint(self, text: &str) -> String {
        self.wrap("2", text)
    }

    /// A diff, line by line.
    #[must_use]
    pub fn diff(self, text: &str) -> String {
        if !self.colours {
            return text.to_owned();
        }
        text.split_inclusive('\n').map(|line| self.diff_line(line.trim_end_matches('\n'))).map(|line| line + "\n").collect()
    }

    fn diff_line(self, line: &str) -> String {
        match line.as_bytes().first() {
            Some(b'+') => self.good(line),
            Some(b'-') => self.bad(line),
            Some(b'@') => self.faint(line),
            _ => line.to_owned(),
        }
    }
}
