//! `--export`.

use bulkhead_protocol::spec::ExportSpec;

use super::keyed::Keyed;

const KEYS: &[&str] = &["vhost-user-blk", "disk", "socket", "queues", "readonly"];

/// Reads one export.
pub fn parse(text: &str) -> anyhow::Result<ExportSpec> {
    let mut keyed = Keyed::parse("--export", text, KEYS)?;
    if !keyed.switch("vhost-user-blk")? {
        return Err(keyed.refuse("the kind of export is missing", "begin it with vhost-user-blk"));
    }
    let queues = keyed.number("queues", 1, 16)?.unwrap_or(1);
    Ok(ExportSpec {
        disk: keyed.required("disk")?,
        socket: keyed.required("socket")?.into(),
        queues: u16::try_from(queues)?,
        read_only: keyed.switch("readonly")?,
    })
}
