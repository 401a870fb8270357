//! The one door to the kernel: asks for its tables, and applies commands.
use netlink_packet_core::{NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST};
use nix::errno::Errno;

use crate::attribute::{control, put};
use crate::batch::{TOGETHER, pack};
use crate::message::{Content, Request, command};
use crate::socket::Socket;
use crate::{
    Batch, Command, Config, DestinationEntry, Error, Info, Rejection, ServiceEntry, ServiceId, decode, encode,
};

/// The generic netlink controller, which knows the numbers of the families.
const CONTROLLER: u16 = 16;
/// `CTRL_CMD_GETFAMILY`, and `CTRL_CMD_NEWFAMILY` that answers it.
const GET_FAMILY: u8 = 3;
const NEW_FAMILY: u8 = 1;

/// A connection to the IPVS of the network namespace in which it was opened.
///
/// It blocks, for at most a minute a request. Keep one and own it in one place: dumps don't see concurrent changes
/// consistently, and IPVS tells nobody of them.
pub struct Client {
    socket: Socket,
    family: u16,
    sequence: u32,
}

impl Client {
    /// Opens a connection. The kernel loads IPVS for it, if it can; no capability is needed until the first command.
    pub fn open() -> Result<Self, Error> {
        Self::start(Socket::open()?)
    }

    /// A client without a kernel, that hears just these datagrams: for tests, and for fuzzers, since whoever reads
    /// bytes must withstand any.
    pub fn hearing(datagrams: impl IntoIterator<Item = Vec<u8>>) -> Result<Self, Error> {
        Self::start(Socket::prepared(datagrams))
    }

    fn start(socket: Socket) -> Result<Self, Error> {
        let mut client = Self {
            socket,
            family: CONTROLLER,
            sequence: 0,
        };
        let mut family = None;
        let put_name = |buffer: &mut Vec<u8>| put(buffer, control::FAMILY_NAME, b"IPVS\0");
        let asked = client.ask(&FAMILY, put_name, |attributes| {
            family = Some(decode::family_id(attributes)?);
            Ok(())
        });
        asked.map_err(|error| match error {
            Error::Unanswered {
                source: Errno::ENOENT,
                ..
            } => Error::FamilyMissing,
            error => error,
        })?;
        client.family = family.ok_or(Error::Malformed("the family's number is missing"))?;
        Ok(client)
    }

    /// All services.
    pub fn services(&mut self) -> Result<Vec<ServiceEntry>, Error> {
        let mut services = Vec::new();
        self.ask(
            &SERVICES,
            |_| {},
            |attributes| {
                services.push(decode::service(attributes)?);
                Ok(())
            },
        )?;
        Ok(services)
    }

    /// One service, if there is such a one.
    pub fn service(&mut self, id: &ServiceId) -> Result<Option<ServiceEntry>, Error> {
        let mut service = None;
        let put_id = |buffer: &mut Vec<u8>| encode::put_id(buffer, id);
        let asked = self.ask(&SERVICE, put_id, |attributes| {
            service = Some(decode::service(attributes)?);
            Ok(())
        });
        match asked {
            Err(Error::Unanswered {
                source: Errno::ESRCH, ..
            }) => Ok(None),
            asked => asked.map(|()| service),
        }
    }

    /// The servers of a service. None also if the service doesn't exist: the kernel makes no difference.
    pub fn destinations(&mut self, service: &ServiceId) -> Result<Vec<DestinationEntry>, Error> {
        let mut destinations = Vec::new();
        let put_id = |buffer: &mut Vec<u8>| encode::put_id(buffer, service);
        self.ask(&DESTINATIONS, put_id, |attributes| {
            destinations.push(decode::destination(attributes, service.family())?);
            Ok(())
        })?;
        Ok(destinations)
    }

    /// The timeouts.
    pub fn config(&mut self) -> Result<Config, Error> {
        let mut config = None;
        self.ask(
            &CONFIG,
            |_| {},
            |attributes| {
                config = Some(decode::config(attributes)?);
                Ok(())
            },
        )?;
        config.ok_or(Error::Malformed("the timeouts are missing"))
    }

    /// Sets the timeouts that aren't 0.
    pub fn set_config(&mut self, config: Config) -> Result<(), Error> {
        self.run(Command::SetConfig(config))
    }

    /// Facts about the kernel's IPVS.
    pub fn info(&mut self) -> Result<Info, Error> {
        let mut info = None;
        self.ask(
            &INFO,
            |_| {},
            |attributes| {
                info = Some(decode::info(attributes)?);
                Ok(())
            },
        )?;
        info.ok_or(Error::Malformed("the facts are missing"))
    }

    /// Applies one command.
    pub fn run(&mut self, command: Command) -> Result<(), Error> {
        let rejections = self.apply(&Batch::from_iter([command]))?;
        rejections
            .into_iter()
            .next()
            .map_or(Ok(()), |rejection| Err(rejection.error))
    }

    /// Applies all commands in order, and returns those that the kernel refused; the others are done.
    ///
    /// An error means that it isn't known how far it came: read the tables again.
    pub fn apply(&mut self, batch: &Batch) -> Result<Vec<Rejection>, Error> {
        let mut rejections = Vec::new();
        for (round, commands) in batch.commands().chunks(TOGETHER).enumerate() {
            let first = round * TOGETHER;
            self.apply_together(commands, |offset, error| {
                rejections.push(Rejection {
                    index: first + offset,
                    error,
                });
            })?;
        }
        Ok(rejections)
    }

    fn apply_together(
        &mut self,
        commands: &[Command],
        mut reject: impl FnMut(usize, Error),
    ) -> Result<(), Error> {
        let first = self.sequence.wrapping_add(1);
        let last = first.wrapping_add(u32::try_from(commands.len() - 1).unwrap_or(u32::MAX));
        self.sequence = last;
        self.socket.send(&pack(commands, self.family, first))?;
        self.socket.receive(|reply| {
            let offset = reply.sequence.wrapping_sub(first) as usize;
            // An answer that came too late for an earlier request is no answer to this one.
            let Some(command) = commands.get(offset) else {
                return Ok(false);
            };
            match reply.content {
                Content::Failed(errno) => reject(offset, Error::of_command(command, errno)),
                Content::Overrun => return Err(Error::Overrun),
                Content::Done | Content::Answer { .. } => {}
            }
            Ok(reply.sequence == last)
        })
    }

    /// Asks a question, and hands the attributes of each answer to `take`.
    fn ask(
        &mut self,
        question: &Question,
        put_attributes: impl FnOnce(&mut Vec<u8>),
        mut take: impl FnMut(&[u8]) -> Result<(), Error>,
    ) -> Result<(), Error> {
        self.sequence = self.sequence.wrapping_add(1);
        let (expected, sequence) = ((self.family, question.answer), self.sequence);
        let flags = NLM_F_REQUEST | question.flags;
        let mut message = Vec::new();
        Request {
            family: self.family,
            command: question.command,
            flags,
            sequence,
        }
        .emit(&mut message, put_attributes);
        self.socket.send(&message)?;
        // A dump must be read to its end, whatever is in it, or the kernel refuses the next one.
        let mut taken = Ok(());
        self.socket.receive(|reply| {
            if reply.sequence != sequence {
                return Ok(false);
            }
            match reply.content {
                Content::Done => return Ok(true),
                Content::Failed(errno) => return Err(Error::of_question(question.about, errno)),
                Content::Overrun => return Err(Error::Overrun),
                Content::Answer {
                    family,
                    command,
                    attributes,
                } if (family, command) == expected => {
                    taken = std::mem::replace(&mut taken, Ok(())).and_then(|()| take(attributes));
                }
                Content::Answer { .. } => taken = Err(Error::Malformed("it is about something else")),
            }
            Ok(false)
        })?;
        taken
    }
}

/// A question to the kernel.
struct Question {
    about: &'static str,
    command: u8,
    /// The command that answers it.
    answer: u8,
    flags: u16,
}

const FAMILY: Question = Question {
    about: "which family IPVS is",
    command: GET_FAMILY,
    answer: NEW_FAMILY,
    flags: NLM_F_ACK,
};
const SERVICES: Question = Question {
    about: "which services there are",
    command: command::GET_SERVICE,
    answer: command::NEW_SERVICE,
    flags: NLM_F_DUMP,
};
const SERVICE: Question = Question {
    about: "how a service is",
    command: command::GET_SERVICE,
    answer: command::NEW_SERVICE,
    flags: NLM_F_ACK,
};
const DESTINATIONS: Question = Question {
    about: "which servers a service has",
    command: command::GET_DEST,
    answer: command::NEW_DEST,
    flags: NLM_F_DUMP,
};
const CONFIG: Question = Question {
    about: "which timeouts are set",
    command: command::GET_CONFIG,
    answer: command::SET_CONFIG,
    flags: NLM_F_ACK,
};
const INFO: Question = Question {
    about: "which version it is",
    command: command::GET_INFO,
    answer: command::SET_INFO,
    flags: NLM_F_ACK,
};
