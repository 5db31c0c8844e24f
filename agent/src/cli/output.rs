//! The only place that prints: data on stdout, everything else on stderr, colours and progress on terminals only.
#![expect(clippy::disallowed_methods, reason = "prints, and asks the environment whether it may use colours")]

use std::io::{self, IsTerminal, Write};

use serde::Serialize;

use super::{
    arguments::{Form, When},
    failure::Failure,
    paint::Paint,
};
use crate::exit;

/// Where lines go.
struct Sink {
    writer: Box<dyn Write + Send>,
    is_terminal: bool,
    paint: Paint,
}

/// What is printed, and for whom.
pub struct Output {
    form: Form,
    data: Sink,
    talk: Sink,
    broken: Option<io::ErrorKind>,
}

impl Output {
    /// On stdout and stderr.
    #[must_use]
    pub fn new(form: Form, when: When) -> Self {
        let allowed = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        let paint = |is_terminal| Paint::new(when == When::Always || when == When::Auto && allowed && is_terminal);
        let data =
            Sink { is_terminal: io::stdout().is_terminal(), paint: paint(io::stdout().is_terminal()), writer: Box::new(io::stdout()) };
        let talk =
            Sink { is_terminal: io::stderr().is_terminal(), paint: paint(io::stderr().is_terminal()), writer: Box::new(io::stderr()) };
        Self { form, data, talk, broken: None }
    }

    /// To writers that are no terminals.
    #[must_use]
    pub fn to(form: Form, data: Box<dyn Write + Send>, talk: Box<dyn Write + Send>) -> Self {
        let sink = |writer| Sink { writer, is_terminal: false, paint: Paint::new(false) };
        Self { form, data: sink(data), talk: sink(talk), broken: None }
    }

    /// Whether a program reads the answer.
    #[must_use]
    pub fn is_json(&self) -> bool {
        self.form == Form::Json
    }

    /// Whether somebody sees stderr as it is written, and it is not for a program.
    #[must_use]
    pub fn can_show_progress(&self) -> bool {
        self.talk.is_terminal && self.form == Form::Text
    }

    /// The answer: for people what `text` makes of it, for programs JSON.
    pub fn answer<T: Serialize>(&mut self, value: &T, text: impl FnOnce(Paint) -> String) {
        if self.is_json() {
            self.json(value, true);
        } else {
            let text = text(self.data.paint);
            self.print(&text);
        }
    }

    /// One of several answers: for programs one line each.
    pub fn next_answer<T: Serialize>(&mut self, value: &T, text: impl FnOnce(Paint) -> String) {
        if self.is_json() {
            self.json(value, false);
        } else {
            let text = text(self.data.paint);
            self.print(&format!("{text}\n"));
        }
    }

    fn json<T: Serialize>(&mut self, value: &T, pretty: bool) {
        let text = if pretty { serde_json::to_string_pretty(value) } else { serde_json::to_string(value) };
        self.print(&format!("{}\n", text.unwrap_or_default()));
    }

    /// Data as it is.
    pub fn print(&mut self, text: &str) {
        let written = self.data.writer.write_all(text.as_bytes()).and_then(|()| self.data.writer.flush());
        if let Err(error) = written {
            self.broken.get_or_insert(error.kind());
        }
    }

    /// Something to know that is not the answer.
    pub fn say(&mut self, text: impl FnOnce(Paint) -> String) {
        let text = text(self.talk.paint);
        let _ = self.talk.writer.write_all(text.as_bytes()).and_then(|()| self.talk.writer.flush());
    }

    /// Why there is no answer.
    pub fn fail(&mut self, failure: &Failure) {
        if self.is_json() {
            let text = serde_json::to_string(&serde_json::json!({ "error": failure })).unwrap_or_default();
            self.say(|_| format!("{text}\n"));
        } else {
            self.say(|paint| failure.text(paint));
        }
    }

    /// The exit code, given that of the verb: an answer that could not be written is none. Nobody minds when a reader like `head` has enough.
    #[must_use]
    pub fn finish(self, code: u8) -> u8 {
        match self.broken {
            None | Some(io::ErrorKind::BrokenPipe) => code,
            Some(_) => exit::FAILED,
        }
    }
}

/// What clap has to say: help on stdout, mistakes on stderr.
pub fn usage(error: &clap::Error) -> u8 {
    let _ = error.print();
    u8::try_from(error.exit_code()).unwrap_or(exit::USAGE)
}

/// Where tests read what was printed.
#[cfg(test)]
pub mod captured {
    use std::sync::{Arc, Mutex};

    use super::*;

    /// What was printed so far.
    #[derive(Clone, Default)]
    pub struct Captured(Arc<Mutex<Vec<u8>>>);

    impl Captured {
        /// As text.
        pub fn text(&self) -> String {
            String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
        }
    }

    impl Write for Captured {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// An output, its stdout and its stderr.
    pub fn output(form: Form) -> (Output, Captured, Captured) {
        let (data, talk) = (Captured::default(), Captured::default());
        (Output::to(form, Box::new(data.clone()), Box::new(talk.clone())), data, talk)
    }
}
