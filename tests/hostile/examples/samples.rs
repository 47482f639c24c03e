//! Writes every decoder's samples to `FOLDER/NAME/`, where the fuzzer begins with them.

use std::path::PathBuf;

use bulkhead_hostile::decoder::DECODERS;

fn main() -> std::io::Result<()> {
    let folder = std::env::args_os().nth(1).map(PathBuf::from);
    let Some(folder) = folder else { return Err(std::io::Error::other("usage: samples FOLDER")) };
    for decoder in DECODERS {
        let own = folder.join(decoder.name);
        std::fs::create_dir_all(&own)?;
        for (number, sample) in (decoder.samples)().iter().enumerate() {
            std::fs::write(own.join(format!("sample-{number:03}")), sample)?;
        }
        println!("{}", decoder.name);
    }
    Ok(())
}
