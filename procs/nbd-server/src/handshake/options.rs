//! One option, answered.

use bulkhead_nbd::context::asks_for;
use bulkhead_nbd::handshake::{Refusal, ReplyKind, encode_reply};
use bulkhead_nbd::option::{
    ContextQuery, Info, InfoCode, InfoQuery, OptionCode, decode_export_name, encode_context,
    encode_server, export_tail,
};
use bulkhead_nbd::reply::Style;

use super::{Agreement, Context, Fault, Handshake, Security, Step, refuse};
use crate::export::Export;

/// Zeroes that end the answer to `EXPORT_NAME` unless the client wants none.
const ZEROES: usize = 124;

impl Handshake {
    pub(super) fn option(
        &mut self,
        code: u32,
        data: &[u8],
        output: &mut Vec<u8>,
        export: &Export,
    ) -> Result<Step, Fault> {
        let Some(option) = OptionCode::from_code(code) else {
            refuse(output, code, Refusal::Unsupported, "there is no such option");
            return Ok(Step::Wait);
        };
        let in_the_clear = matches!(option, OptionCode::StartTls | OptionCode::Abort);
        if self.security == Security::Wanted && !in_the_clear {
            return match option {
                OptionCode::ExportName => Err(Fault::Export),
                _ => {
                    refuse(output, code, Refusal::TlsRequired, "begin with TLS");
                    Ok(Step::Wait)
                }
            };
        }
        let answer = match option {
            OptionCode::ExportName => return self.export_name(data, output, export),
            OptionCode::Go => return Ok(self.go(code, data, output, export)),
            OptionCode::Abort => {
                encode_reply(output, code, ReplyKind::Ack, &[]);
                return Ok(Step::Over);
            }
            OptionCode::StartTls => {
                let answer = self.start_tls(data);
                if answer.is_ok() {
                    encode_reply(output, code, ReplyKind::Ack, &[]);
                    return Ok(Step::Secure);
                }
                answer
            }
            OptionCode::List => list(code, data, output, export),
            OptionCode::Info => self.info(code, data, output, export),
            OptionCode::StructuredReply => self.upgrade(data, Style::Structured),
            OptionCode::ExtendedHeaders => self.upgrade(data, Style::Extended),
            OptionCode::ListMetaContext => self.list_contexts(code, data, output, export),
            OptionCode::SetMetaContext => self.set_contexts(code, data, output, export),
        };
        match answer {
            Ok(()) => encode_reply(output, code, ReplyKind::Ack, &[]),
            Err((refusal, why)) => refuse(output, code, refusal, why),
        }
        Ok(Step::Wait)
    }

    /// The oldest way in: no error can be told.
    fn export_name(
        &mut self,
        data: &[u8],
        output: &mut Vec<u8>,
        export: &Export,
    ) -> Result<Step, Fault> {
        let name = decode_export_name(data)?;
        if !export.is_called(name) {
            return Err(Fault::Export);
        }
        let flags = export.flags(self.style > Style::Simple);
        output.extend(export_tail(export.disk.size, flags));
        if self.no_zeroes != Some(true) {
            output.extend([0; ZEROES]);
        }
        Ok(Step::Agreed(self.agreement()))
    }

    fn agreement(&mut self) -> Agreement {
        Agreement { style: self.style, contexts: std::mem::take(&mut self.contexts) }
    }

    fn go(&mut self, code: u32, data: &[u8], output: &mut Vec<u8>, export: &Export) -> Step {
        match self.info(code, data, output, export) {
            Ok(()) => {
                encode_reply(output, code, ReplyKind::Ack, &[]);
                Step::Agreed(self.agreement())
            }
            Err((refusal, why)) => {
                refuse(output, code, refusal, why);
                Step::Wait
            }
        }
    }

    fn info(&self, code: u32, data: &[u8], output: &mut Vec<u8>, export: &Export) -> Answer {
        let query = InfoQuery::decode(data).map_err(|_| INVALID)?;
        if !export.is_called(query.name) {
            return Err(UNKNOWN);
        }
        for info in export.infos(self.style > Style::Simple) {
            let told = match info {
                Info::Export { .. } | Info::BlockSize { .. } => true,
                Info::Name(_) => query.wanted.contains(&InfoCode::Name),
                Info::Description(text) => {
                    !text.is_empty() && query.wanted.contains(&InfoCode::Description)
                }
            };
            if told {
                encode_reply(output, code, ReplyKind::Info, &info.encode());
            }
        }
        Ok(())
    }

    fn start_tls(&self, data: &[u8]) -> Answer {
        match (data.is_empty(), self.security) {
            (false, _) => Err(INVALID),
            (true, Security::Wanted) => Ok(()),
            (true, Security::None) => Err((Refusal::Policy, "this export has no TLS")),
            (true, Security::Begun) => Err((Refusal::Invalid, "TLS has begun already")),
        }
    }

    fn upgrade(&mut self, data: &[u8], style: Style) -> Answer {
        if !data.is_empty() {
            return Err(INVALID);
        }
        if style < self.style {
            return Err((Refusal::ExtendedHeadersRequired, "extended headers are agreed on"));
        }
        self.style = style;
        Ok(())
    }

    fn list_contexts(
        &self,
        code: u32,
        data: &[u8],
        output: &mut Vec<u8>,
        export: &Export,
    ) -> Answer {
        let query = self.contexts_of(data, export)?;
        for context in Context::ALL {
            let Some(name) = context.name(export) else { continue };
            let queries = &query.queries;
            let asked = queries.is_empty() || queries.iter().any(|query| asks_for(query, &name));
            if asked {
                // A list gives no numbers away.
                encode_reply(output, code, ReplyKind::MetaContext, &encode_context(0, &name));
            }
        }
        Ok(())
    }

    fn set_contexts(
        &mut self,
        code: u32,
        data: &[u8],
        output: &mut Vec<u8>,
        export: &Export,
    ) -> Answer {
        // Each choice replaces the one before, also one that fails.
        self.contexts.clear();
        let query = self.contexts_of(data, export)?;
        for context in Context::ALL {
            let Some(name) = context.name(export) else { continue };
            if query.queries.contains(&&*name) {
                self.contexts.push(context);
                let told = encode_context(context.id(), &name);
                encode_reply(output, code, ReplyKind::MetaContext, &told);
            }
        }
        Ok(())
    }

    fn contexts_of<'a>(&self, data: &'a [u8], export: &Export) -> Result<ContextQuery<'a>, Why> {
        if self.style == Style::Simple {
            return Err((Refusal::Invalid, "agree on structured replies first"));
        }
        let query = ContextQuery::decode(data).map_err(|_| INVALID)?;
        match export.is_called(query.export) {
            true => Ok(query),
            false => Err(UNKNOWN),
        }
    }
}

type Why = (Refusal, &'static str);
type Answer = Result<(), Why>;

const INVALID: Why = (Refusal::Invalid, "its data makes no sense");
const UNKNOWN: Why = (Refusal::UnknownExport, "there is no export of this name");

fn list(code: u32, data: &[u8], output: &mut Vec<u8>, export: &Export) -> Answer {
    if !data.is_empty() {
        return Err(INVALID);
    }
    let server = encode_server(&export.name, &export.description);
    encode_reply(output, code, ReplyKind::Server, &server);
    Ok(())
}
