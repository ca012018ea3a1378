//! A manual page as it grows: man(7).

/// The text of a page.
pub struct Page(String);

impl Page {
    /// A page with its title line.
    pub fn new(name: &str, section: u8) -> Self {
        let version = env!("CARGO_PKG_VERSION");
        Self(format!(
            ".TH {} {section} \"\" \"slurm-login {version}\"\n",
            escaped(name)
        ))
    }

    /// Continues what another writer has begun.
    pub fn continued(text: String) -> Self {
        Self(text)
    }

    /// A section.
    pub fn section(&mut self, title: &str) -> &mut Self {
        self.0 += &format!(".SH {}\n", escaped(&title.to_uppercase()));
        self
    }

    /// A part of a section.
    pub fn part(&mut self, title: &str) -> &mut Self {
        self.0 += &format!(".SS \"{}\"\n", escaped(title));
        self
    }

    /// A paragraph.
    pub fn paragraph(&mut self, text: &str) -> &mut Self {
        self.0 += ".PP\n";
        self.text(text)
    }

    /// Words and what they mean.
    pub fn item(&mut self, words: &str, meaning: &str) -> &mut Self {
        self.0 += &format!(".TP\n\\fB{}\\fR\n", escaped(words));
        self.text(meaning)
    }

    /// A line break, then more of the last item.
    pub fn more(&mut self, text: &str) -> &mut Self {
        self.0 += ".br\n";
        self.text(text)
    }

    /// Lines as they are.
    pub fn example(&mut self, lines: &str) -> &mut Self {
        self.0 += ".PP\n.EX\n";
        for line in lines.lines() {
            self.line(line);
        }
        self.0 += ".EE\n";
        self
    }

    /// The bytes.
    pub fn finish(self) -> Vec<u8> {
        self.0.into_bytes()
    }

    fn text(&mut self, text: &str) -> &mut Self {
        for line in text.lines() {
            self.line(line.trim());
        }
        self
    }

    /// A line that starts with a dot or a quote would be a request.
    fn line(&mut self, line: &str) {
        let guard = if line.starts_with(['.', '\'']) {
            "\\&"
        } else {
            ""
        };
        self.0 += &format!("{guard}{}\n", escaped(line));
    }
}

fn escaped(text: &str) -> String {
    text.replace('\\', "\\e")
        .replace('-', "\\-")
        .replace('"', "\\(dq")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_taken_for_a_request() {
        let mut page = Page::new("x.toml", 5);
        page.item("a-b", ".ssh \\ 'x'").example(".hidden\n'y");
        let text = String::from_utf8(page.finish()).unwrap();
        assert!(text.contains("\\fBa\\-b\\fR\n\\&.ssh \\e 'x'\n"));
        assert!(text.contains("\\&.hidden\n\\&'y\n"));
    }
}
