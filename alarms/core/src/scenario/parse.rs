//! A scenario file as scenarios. Each wrong line is named with what is allowed
//! there, and the rest is read on, so that one look finds all.

use std::sync::Arc;

use schema::{DeviceId, DurationMs, LocationId, Severity};

use super::expected::{self, Expectation};
use super::setup::{DeviceLine, LocationLine, Setup, calendar};
use super::words::{Word, show, split};
use super::world::Step;
use super::{MAX_FILE_BYTES, Scenario, ScenarioError, input, profile};

/// What a line of a scenario does.
#[derive(Clone, Debug)]
pub(super) enum Statement {
    Step(Step, Expectation),
    /// From a snapshot on.
    Restart,
    /// From the scenario's start on.
    Replay,
    /// The alarms that are active, in the runner's words, sorted.
    Active(Vec<String>),
    Late(u64),
    Repeated(u64),
}

#[derive(Clone, Debug)]
pub(super) struct Line {
    pub number: usize,
    /// As it is written, without what surrounds it.
    pub text: String,
    pub statement: Statement,
}

/// The profile that a line without a name means.
pub(super) const UNNAMED: &str = "profile";

const LINES: &str = "a line begins with a time (`5s`, `1h30m`, `2026-01-05T08:00:00Z`), or with \
    `scenario`, `profile`, `start`, `grace`, `location`, `device`, `expect`, `restart` or `replay`";

pub(super) type Read<'a> = &'a mut dyn FnMut(&str) -> Result<String, String>;

pub(super) struct Parser<'a> {
    file: &'a str,
    lines: Vec<&'a str>,
    /// The line that is read next, from 0.
    next: usize,
    read: Read<'a>,
    errors: Vec<ScenarioError>,
    /// What is said before the first scenario is of all.
    common: Setup,
    current: Option<Scenario>,
    scenarios: Vec<Scenario>,
    /// Profiles, locations and devices that this scenario has said itself.
    own: Vec<(&'static str, String)>,
    /// The latest receipt so far.
    latest: i64,
}

/// Reads a whole file.
pub(super) fn parse(
    file: &str,
    text: &str,
    read: Read<'_>,
) -> Result<Vec<Scenario>, Vec<ScenarioError>> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut parser = Parser {
        file,
        lines: text.lines().collect(),
        next: 0,
        read,
        errors: Vec::new(),
        common: Setup::default(),
        current: None,
        scenarios: Vec::new(),
        own: Vec::new(),
        latest: i64::MIN,
    };
    if text.len() > MAX_FILE_BYTES {
        parser.error(1, format!("a scenario file has at most {MAX_FILE_BYTES} bytes"));
        return Err(parser.errors);
    }
    while let Some(line) = parser.lines.get(parser.next).copied() {
        parser.next += 1;
        let number = parser.next;
        let told = split(line).and_then(|words| parser.line(number, line.trim(), &words));
        if let Err(message) = told {
            parser.error(number, message);
        }
    }
    parser.end_scenario();
    if parser.scenarios.is_empty() && parser.errors.is_empty() {
        parser.error(1, "there is no scenario: one begins with `scenario NAME`".to_owned());
    }
    if parser.errors.is_empty() { Ok(parser.scenarios) } else { Err(parser.errors) }
}

impl Parser<'_> {
    fn error(&mut self, line: usize, message: String) {
        self.errors.push(ScenarioError { file: self.file.to_owned(), line, message });
    }

    fn line(&mut self, number: usize, text: &str, words: &[Word]) -> Result<(), String> {
        let Some(first) = words.first() else { return Ok(()) };
        let rest = &words[1..];
        if first.quoted {
            return Err(LINES.to_owned());
        }
        match first.text.as_str() {
            "scenario" => self.begin_scenario(number, rest),
            "start" => self.start(rest),
            "grace" => self.grace(rest),
            "location" => self.location(rest),
            "device" => self.device(rest),
            "profile" => self.first_profile(rest),
            "restart" if rest.is_empty() => self.push(number, text, Statement::Restart),
            "replay" if rest.is_empty() => self.push(number, text, Statement::Replay),
            "expect" => {
                let statement = expectation(rest)?;
                self.push(number, text, statement)
            }
            time if time.starts_with(|c: char| c.is_ascii_digit()) => {
                self.step(number, text, words)
            }
            _ => Err(format!("`{}` is not understood; {LINES}", first.text)),
        }
    }

    fn begin_scenario(&mut self, number: usize, words: &[Word]) -> Result<(), String> {
        self.end_scenario();
        self.own.clear();
        self.latest = i64::MIN;
        let name: Vec<&str> = words.iter().map(|word| word.text.as_str()).collect();
        let name = name.join(" ");
        self.current = Some(Scenario {
            name: name.clone(),
            line: number,
            setup: self.common.clone(),
            lines: Vec::new(),
        });
        if name.is_empty() {
            return Err("a scenario has a name: `scenario It gets too warm`".to_owned());
        }
        if let Some(other) = self.scenarios.iter().find(|other| other.name == name) {
            return Err(format!("line {} has a scenario of that name", other.line));
        }
        Ok(())
    }

    fn end_scenario(&mut self) {
        let Some(mut scenario) = self.current.take() else { return };
        if scenario.lines.is_empty() {
            self.error(scenario.line, "the scenario tests nothing: it has no lines".to_owned());
        } else if scenario.setup.profiles.is_empty() {
            self.error(scenario.line, "the scenario has no profile: write `profile \"FILE.toml\"`, or `profile`, its text and `end`".to_owned());
        }
        scenario.setup.complete();
        self.scenarios.push(scenario);
    }

    fn push(&mut self, number: usize, text: &str, statement: Statement) -> Result<(), String> {
        let Some(scenario) = &mut self.current else {
            return Err(
                "this line belongs to a scenario: `scenario NAME` goes before it".to_owned()
            );
        };
        scenario.lines.push(Line { number, text: text.to_owned(), statement });
        Ok(())
    }

    /// What the lines before the first input go to.
    fn setup(&mut self) -> Result<&mut Setup, String> {
        match &mut self.current {
            Some(scenario) if !scenario.lines.is_empty() => {
                Err("this line stands before the scenario's first line with a time".to_owned())
            }
            Some(scenario) => Ok(&mut scenario.setup),
            None => Ok(&mut self.common),
        }
    }

    /// Notes that this scope names a thing; twice is an error.
    fn once(&mut self, kind: &'static str, name: &str) -> Result<(), String> {
        if self.own.iter().any(|(known, other)| *known == kind && other == name) {
            return Err(format!("{kind} `{name}` is here twice"));
        }
        self.own.push((kind, name.to_owned()));
        Ok(())
    }

    fn start(&mut self, words: &[Word]) -> Result<(), String> {
        let [time] = words else { return Err("it reads `start 2026-01-05T00:00:00Z`".to_owned()) };
        self.once("start", "")?;
        self.setup()?.start_ms = calendar(&time.text)?;
        Ok(())
    }

    fn grace(&mut self, words: &[Word]) -> Result<(), String> {
        let [length] = words else { return Err("it reads `grace 2s`".to_owned()) };
        self.once("grace", "")?;
        let length: Result<DurationMs, schema::ParseDurationError> = length.text.parse();
        self.setup()?.grace_ms = length.map_err(|error| error.to_string())?.0;
        Ok(())
    }

    fn location(&mut self, words: &[Word]) -> Result<(), String> {
        let [name, options @ ..] = words else {
            return Err(
                "it reads `location NAME [zone Europe/Amsterdam] [id 3] [group GROUP]…`".to_owned()
            );
        };
        self.once("location", &name.text)?;
        let setup = self.setup()?;
        // Said anew, it keeps its place, which devices go by.
        let known = setup.locations.iter().position(|known| known.name == name.text);
        let highest = setup.locations.iter().map(|known| known.id.0).max().unwrap_or(0);
        let mut line = LocationLine {
            id: known.map_or(LocationId(highest + 1), |place| setup.locations[place].id),
            name: name.text.clone(),
            zone: "UTC".to_owned(),
            groups: Vec::new(),
        };
        for (option, value) in pairs(options, &["zone", "id", "group"])? {
            match option {
                "zone" => line.zone = input::known_zone(value)?,
                "group" => input::put_group(&mut line.groups, value)?,
                _ => line.id = LocationId(id(value)?),
            }
        }
        let mut others = setup.locations.iter().filter(|other| other.name != line.name);
        if others.any(|other| other.id == line.id) {
            return Err(format!("another location has id {}", line.id.0));
        }
        match known {
            Some(place) => setup.locations[place] = line,
            None => setup.locations.push(line),
        }
        Ok(())
    }

    fn device(&mut self, words: &[Word]) -> Result<(), String> {
        let [name, options @ ..] = words else {
            return Err("it reads `device NAME [type TYPE] [location NAME] [id 17]`".to_owned());
        };
        self.once("device", &name.text)?;
        let setup = self.setup()?;
        let known = setup.devices.iter().position(|known| known.name == name.text);
        let highest = setup.devices.iter().map(|known| known.id.0).max().unwrap_or(0);
        let mut line = DeviceLine {
            id: known.map_or(DeviceId(highest + 1), |place| setup.devices[place].id),
            name: name.text.clone(),
            device_type: None,
            location: 0,
        };
        for (option, value) in pairs(options, &["type", "location", "id"])? {
            match option {
                "type" => line.device_type = Some(value.to_owned()),
                "location" => line.location = place(setup, value)?,
                _ => line.id = DeviceId(id(value)?),
            }
        }
        let mut others = setup.devices.iter().filter(|other| other.name != line.name);
        if others.any(|other| other.id == line.id) {
            return Err(format!("another device has id {}", line.id.0));
        }
        match known {
            Some(place) => setup.devices[place] = line,
            None => setup.devices.push(line),
        }
        Ok(())
    }

    fn first_profile(&mut self, words: &[Word]) -> Result<(), String> {
        // A block is read to its end even where the line before it is wrong.
        let (name, body) = self.profile(words)?;
        let Some(body) = body else {
            return Err("a profile that is gone has a time before it".to_owned());
        };
        self.once("profile", &name)?;
        let setup = self.setup()?;
        match setup.profiles.iter_mut().find(|(known, _)| *known == name) {
            Some((_, known)) => *known = body,
            None => setup.profiles.push((name, body)),
        }
        Ok(())
    }

    /// Reads `[NAME] "FILE"`, `[NAME] gone`, or `[NAME]` and the block behind it.
    fn profile(&mut self, words: &[Word]) -> Result<(String, profile::Body), String> {
        let (name, words) = match words {
            [name, rest @ ..] if !name.quoted && !name.is("gone") => (name.text.clone(), rest),
            words => (UNNAMED.to_owned(), words),
        };
        let body = match words {
            [gone] if gone.is("gone") => None,
            [file] if file.quoted => {
                let text = (self.read)(&file.text)
                    .map_err(|error| format!("{} can't be read: {error}", file.text))?;
                Some(profile::from_file(&file.text, &text)?)
            }
            [] => {
                let first = self.next;
                let length = self.lines[first..].iter().position(|line| line.trim() == "end");
                let length = length.ok_or("the profile that begins here has no `end` line")?;
                self.next = first + length + 1;
                let text = self.lines[first..first + length].join("\n");
                match profile::from_block(&text, first + 1) {
                    Ok(body) => Some(body),
                    Err((line, message)) => {
                        self.error(line, message);
                        Some(Arc::default())
                    }
                }
            }
            _ => {
                return Err(
                    "it reads `profile [NAME] \"FILE.toml\"`, or `profile [NAME]` with the \
                            text behind it up to a line `end`"
                        .to_owned(),
                );
            }
        };
        Ok((name, body))
    }

    fn step(&mut self, number: usize, text: &str, words: &[Word]) -> Result<(), String> {
        let mut setup = match &self.current {
            Some(scenario) => scenario.setup.clone(),
            None => self.common.clone(),
        };
        setup.complete();
        let (words, after) = arrow(words)?;
        let step = match words {
            [time, keyword, rest @ ..] if keyword.is("profile") => {
                let at = setup.time(&time.text)?;
                let (name, body) = self.profile(rest)?;
                input::profile(at, name, body)
            }
            words => input::parse(words, &setup)?,
        };
        let expectation = match after {
            Some(after) => expected::parse(after, &setup)?,
            None => Expectation::Exactly(Vec::new()),
        };
        if step.received < self.latest {
            return Err(format!(
                "it is received before the line above it, at {}: lines stand in the order in \
                 which they come in, and an observed time of its own is written `5s@1h`",
                setup.show_time(self.latest)
            ));
        }
        self.latest = step.received;
        self.push(number, text, Statement::Step(step, expectation))
    }
}

/// What stands before and behind the arrow.
pub(super) fn arrow(words: &[Word]) -> Result<(&[Word], Option<&[Word]>), String> {
    let mut arrows = words.iter().enumerate().filter(|(_, word)| word.is("->"));
    let first = arrows.next().map(|(place, _)| place);
    if arrows.next().is_some() {
        return Err("one arrow at most; several transitions are separated by `;`".to_owned());
    }
    Ok(match first {
        Some(place) => (&words[..place], Some(&words[place + 1..])),
        None => (words, None),
    })
}

/// The place of a location by its name.
pub(super) fn place(setup: &Setup, name: &str) -> Result<usize, String> {
    let found = setup.locations.iter().position(|known| known.name == name);
    found.ok_or_else(|| {
        let known: Vec<String> = setup.locations.iter().map(|l| show(&l.name)).collect();
        format!("there is no location `{name}`; known are {}", known.join(", "))
    })
}

fn id(text: &str) -> Result<u64, String> {
    let id: Option<u64> = text.parse().ok().filter(|id| *id > 0 && *id < u64::MAX / 2);
    id.ok_or_else(|| format!("`{text}` is no id: a whole number from 1 up"))
}

fn pairs<'a>(words: &'a [Word], names: &[&str]) -> Result<Vec<(&'a str, &'a str)>, String> {
    let mut pairs = Vec::new();
    for pair in words.chunks(2) {
        match pair {
            [name, value] if !name.quoted && names.contains(&&*name.text) => {
                pairs.push((&*name.text, &*value.text));
            }
            _ => {
                let message = "is not understood; allowed are, each with its value,";
                return Err(format!("`{}` {message} {}", pair[0].text, names.join(", ")));
            }
        }
    }
    Ok(pairs)
}

fn expectation(words: &[Word]) -> Result<Statement, String> {
    const SHAPES: &str = "it reads `expect active: none`, `expect active: DEVICE/RULE SEVERITY \
        [acknowledged] [shelved]; …`, `expect late: 1` or `expect repeated: 1`";
    let number = |word: &Word| word.text.parse().map_err(|_| SHAPES.to_owned());
    match words {
        [what, none] if what.is("active:") && none.is("none") => Ok(Statement::Active(Vec::new())),
        [what, rest @ ..] if what.is("active:") && !rest.is_empty() => {
            let parts = rest.split(|word| word.is(";")).filter(|part| !part.is_empty());
            let mut active = Vec::new();
            for part in parts {
                let [of, severity, flags @ ..] = part else { return Err(SHAPES.to_owned()) };
                let severity: Severity = severity
                    .text
                    .parse()
                    .map_err(|error: schema::ParseSeverityError| error.to_string())?;
                let mut text = format!("{} {severity}", show(&of.text));
                for flag in ["acknowledged", "shelved"] {
                    if flags.iter().any(|word| word.is(flag)) {
                        text.push(' ');
                        text.push_str(flag);
                    }
                }
                let known = |word: &Word| word.is("acknowledged") || word.is("shelved");
                if !of.text.contains('/') || !flags.iter().all(known) {
                    return Err(SHAPES.to_owned());
                }
                active.push(text);
            }
            active.sort();
            Ok(Statement::Active(active))
        }
        [what, count] if what.is("late:") => Ok(Statement::Late(number(count)?)),
        [what, count] if what.is("repeated:") => Ok(Statement::Repeated(number(count)?)),
        _ => Err(SHAPES.to_owned()),
    }
}
