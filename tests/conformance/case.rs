//! A row of the suite: what a client sends, what the endpoint must have got, what it answers, what the client must get.

/// One case.
#[derive(Clone, Debug)]
pub struct Case {
    /// What is shown, as a sentence.
    pub name: String,
    /// The section that says so.
    pub rfc: &'static str,
    /// What the client does, in order.
    pub turns: Vec<Turn>,
    /// What the endpoint does with its requests, in order; it says `ok` to those that follow.
    pub replies: Vec<Vec<Act>>,
    /// What the endpoint must have got.
    pub forwarded: Forwarded,
    /// The protocol that the endpoint may be asked for; none otherwise.
    pub upgrades: Option<&'static str>,
    /// What must become of the client's connection.
    pub after: After,
}

/// What the client does.
#[derive(Clone, Debug)]
pub enum Turn {
    /// Writes.
    Send(Vec<u8>),
    /// Reads an answer, which must be this one.
    Get(Want),
    /// Reads these bytes, which are no answer.
    Hear(Vec<u8>),
    /// Says that it will write no more.
    HalfClose,
    /// Waits until the endpoint is done with so many requests.
    Await(usize),
}

/// An answer.
#[derive(Clone, Debug)]
pub enum Want {
    /// With this status; the rest must be well-formed.
    Status(u16),
    /// Exactly this, as [`super::show::answer`] writes it.
    Exactly(String),
}

/// What the endpoint does with a request whose head it has read.
#[derive(Clone, Debug)]
pub enum Act {
    /// Reads the request to its end.
    ReadBody,
    /// Writes.
    Say(Vec<u8>),
    /// Changes to WebSocket, with the proof that the request's key asks for (RFC 6455 §4.2.2).
    Accept,
    /// Reads so many bytes behind the request.
    Take(usize),
    /// Reads until the other side ends.
    TakeAll,
    /// Writes no more.
    HalfClose,
    /// Ends the connection in good order.
    Close,
    /// Resets it.
    Reset,
}

/// What must have reached the endpoint.
#[derive(Clone, Debug)]
pub enum Forwarded {
    /// Nothing at all.
    Nothing,
    /// These requests, each exactly, as [`super::show::request`] writes them.
    Exactly(Vec<String>),
    /// At most the beginning of one request, which never ends.
    Unfinished,
}

/// What follows on the client's connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum After {
    /// It takes the next request, which gets its own answer.
    Open,
    /// It ends without another byte.
    Closed,
    /// It ends, and what TLS has said about that does not matter.
    Ended,
}

/// A case that is to be filled.
pub fn case(name: impl Into<String>, rfc: &'static str) -> Case {
    Case {
        name: name.into(),
        rfc,
        turns: Vec::new(),
        replies: Vec::new(),
        forwarded: Forwarded::Nothing,
        upgrades: None,
        after: After::Open,
    }
}

/// A request that gets an answer of Tidegate's own, and ends its connection.
pub fn refused(name: impl Into<String>, rfc: &'static str, status: u16, bytes: impl Into<Vec<u8>>) -> Case {
    case(name, rfc).sends(bytes).gets_status(status).closed()
}

/// A request that is forwarded like this, and is answered.
pub fn passes(
    name: impl Into<String>,
    rfc: &'static str,
    bytes: impl Into<Vec<u8>>,
    forwarded: &str,
) -> Case {
    let bytes = bytes.into();
    let is_old = bytes.windows(11).any(|window| window == b" HTTP/1.0\r\n");
    case(name, rfc).sends(bytes).gets(if is_old { OK_OLD } else { OK }).forwards(forwarded)
}

/// A plain GET to which the endpoint says this, and the client gets that.
pub fn answers(name: impl Into<String>, rfc: &'static str, says: impl Into<Vec<u8>>, gets: &str) -> Case {
    case(name, rfc).sends(GET).forwards(GOT).says(says).gets(gets)
}

/// A plain GET to which the endpoint says something that is no answer.
pub fn bad_gateway(name: impl Into<String>, rfc: &'static str, says: impl Into<Vec<u8>>) -> Case {
    case(name, rfc).sends(GET).forwards(GOT).says(says).gets_status(502)
}

/// The plainest request.
pub const GET: &str = "GET / HTTP/1.1\r\nHost: shop\r\n\r\n";
/// The same, as an endpoint gets it.
pub const GOT: &str = "GET / HTTP/1.1|host: shop|+||";
/// The endpoint's answer, unless a case says otherwise.
pub const SAYS_OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
/// The same, as a client gets it.
pub const OK: &str = "200 OK|content-length: 2||ok";
/// As a client of HTTP/1.0 gets it.
pub const OK_OLD: &str = "HTTP/1.0 200 OK|content-length: 2||ok";

impl Case {
    /// The client writes.
    pub fn sends(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.turns.push(Turn::Send(bytes.into()));
        self
    }

    /// The client must get an answer with this status.
    pub fn gets_status(mut self, status: u16) -> Self {
        self.turns.push(Turn::Get(Want::Status(status)));
        self
    }

    /// The client must get this answer.
    pub fn gets(mut self, answer: &str) -> Self {
        self.turns.push(Turn::Get(Want::Exactly(answer.to_owned())));
        self
    }

    /// The client must read these bytes.
    pub fn hears(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.turns.push(Turn::Hear(bytes.into()));
        self
    }

    /// The endpoint may be asked to speak this.
    pub fn upgrades(mut self, protocol: &'static str) -> Self {
        self.upgrades = Some(protocol);
        self
    }

    /// The client writes no more.
    pub fn half_closes(mut self) -> Self {
        self.turns.push(Turn::HalfClose);
        self
    }

    /// The client waits until the endpoint is done with so many requests.
    pub fn awaits(mut self, requests: usize) -> Self {
        self.turns.push(Turn::Await(requests));
        self
    }

    /// The endpoint must have got one more request: this one.
    pub fn forwards(mut self, request: &str) -> Self {
        match &mut self.forwarded {
            Forwarded::Exactly(requests) => requests.push(request.to_owned()),
            Forwarded::Nothing | Forwarded::Unfinished => {
                self.forwarded = Forwarded::Exactly(vec![request.to_owned()]);
            }
        }
        self
    }

    /// The endpoint may have seen a beginning, and never an end.
    pub fn forwards_no_end(mut self) -> Self {
        self.forwarded = Forwarded::Unfinished;
        self
    }

    /// The endpoint reads the next request to its end and says this.
    pub fn says(self, bytes: impl Into<Vec<u8>>) -> Self {
        self.acts([Act::ReadBody, Act::Say(bytes.into())])
    }

    /// The endpoint reads the next request to its end, says this and closes.
    pub fn says_last(self, bytes: impl Into<Vec<u8>>) -> Self {
        self.acts([Act::ReadBody, Act::Say(bytes.into()), Act::Close])
    }

    /// What the endpoint does with its next request.
    pub fn acts(mut self, acts: impl IntoIterator<Item = Act>) -> Self {
        self.replies.push(acts.into_iter().collect());
        self
    }

    /// The client's connection must end without an answer.
    pub fn gets_nothing(mut self) -> Self {
        self.after = After::Ended;
        self
    }

    /// The client's connection must end.
    pub fn closed(mut self) -> Self {
        self.after = After::Closed;
        self
    }
}
