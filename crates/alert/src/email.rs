//! Mail: through which server, from whom and to whom.

use std::fmt;

use gemba_core::alert::Notice;
use lettre::message::Mailbox;
use lettre::message::header::ContentType;
use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::client::{Tls, TlsParameters};
use lettre::{AsyncSmtpTransport, AsyncTransport, Message, Tokio1Executor};

use crate::payload::{headline, text};
use crate::routes::RouteError;
use crate::sink::{ATTEMPT_LIMIT, DeliverError};

/// How the connection to a mail server is protected.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Encryption {
    /// TLS from the first byte, usually on port 465. The default.
    #[default]
    Tls,
    /// TLS after STARTTLS, usually on port 587; never without.
    StartTls,
    /// None: for a relay on this machine only. Credentials are refused with it.
    None,
}

/// Where mail goes: through which server, from whom and to whom.
#[derive(Clone)]
pub struct Email {
    server: String,
    port: Option<u16>,
    encryption: Encryption,
    credentials: Option<Credentials>,
    from: String,
    to: Vec<String>,
}

impl Email {
    /// Mail through `server`, with TLS, from `from` to `to`; addresses as in `Ann <ann@example.org>`.
    pub fn new(server: &str, from: &str, to: &str) -> Self {
        Self {
            server: server.to_owned(),
            port: None,
            encryption: Encryption::default(),
            credentials: None,
            from: from.to_owned(),
            to: vec![to.to_owned()],
        }
    }

    /// Adds a receiver.
    pub fn to(mut self, address: &str) -> Self {
        self.to.push(address.to_owned());
        self
    }

    /// Another port than the usual one of the encryption.
    pub const fn port(mut self, port: u16) -> Self {
        self.port = Some(port);
        self
    }

    /// How the connection is protected.
    pub const fn encryption(mut self, encryption: Encryption) -> Self {
        self.encryption = encryption;
        self
    }

    /// Who logs in at the server.
    pub fn credentials(mut self, user: &str, password: &str) -> Self {
        self.credentials = Some(Credentials::new(user.to_owned(), password.to_owned()));
        self
    }

    pub(crate) fn mailer(self, route: &str) -> Result<Mailer, RouteError> {
        let wrong =
            |what: &'static str, why: String| RouteError::Email { route: route.to_owned(), what, why };
        let address = |text: &String| {
            text.parse::<Mailbox>().map_err(|error| wrong("an address", format!("'{text}': {error}")))
        };
        let from = address(&self.from)?;
        let to = self.to.iter().map(address).collect::<Result<_, _>>()?;
        if self.encryption == Encryption::None && self.credentials.is_some() {
            return Err(wrong("the encryption", "a password would travel in clear; use TLS".into()));
        }
        let tls = || {
            TlsParameters::new(self.server.clone())
                .map_err(|error| wrong("the server's name", format!("'{}': {error}", self.server)))
        };
        let (tls, port) = match self.encryption {
            Encryption::Tls => (Tls::Wrapper(tls()?), 465),
            Encryption::StartTls => (Tls::Required(tls()?), 587),
            Encryption::None => (Tls::None, 25),
        };
        let mut builder = AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(&self.server)
            .port(self.port.unwrap_or(port))
            .tls(tls)
            .timeout(Some(ATTEMPT_LIMIT));
        if let Some(credentials) = self.credentials {
            builder = builder.credentials(credentials);
        }
        Ok(Mailer { transport: builder.build(), from, to })
    }
}

impl fmt::Debug for Email {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Email")
            .field("server", &self.server)
            .field("encryption", &self.encryption)
            .field("from", &self.from)
            .field("to", &self.to)
            .finish_non_exhaustive()
    }
}

/// A mail route that is ready to send.
pub(crate) struct Mailer {
    transport: AsyncSmtpTransport<Tokio1Executor>,
    from: Mailbox,
    to: Vec<Mailbox>,
}

impl Mailer {
    pub(crate) async fn send(&self, notice: &Notice) -> Result<(), DeliverError> {
        let mut message = Message::builder().from(self.from.clone()).subject(headline(notice));
        for to in &self.to {
            message = message.to(to.clone());
        }
        // Mail programs show the mails of one incident together.
        let thread =
            format!("<{}.{}@gemba>", notice.fingerprint().replace(['/', ':'], "."), notice.since_unix_ms);
        let message = message.references(thread).header(ContentType::TEXT_PLAIN).body(text(notice))?;
        self.transport.send(message).await?;
        Ok(())
    }
}
