//! Arguments of `tandem call`: a test phone.

use crate::types::AudioCodec;
use std::path::PathBuf;

/// Make one call as a test phone and judge it: set-up times, codec, packets, loss, jitter, MOS, what was heard
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example: tandem call --server sip:127.0.0.1:5060 --user alice --password alice-secret --to 0470123456 --seconds 5"
)]
pub struct Args {
    /// The gateway, as sip:HOST:PORT or sips:HOST, with ;transport=tcp or tls where it is not UDP
    #[arg(long, value_name = "URI")]
    pub server: String,
    /// Who calls
    #[arg(long)]
    pub user: String,
    /// Literal, env:NAME or file:PATH
    #[arg(long, value_name = "PASSWORD")]
    pub password: String,
    /// Number or user name to call
    #[arg(long, value_name = "NUMBER")]
    pub to: String,
    /// Speech to send; without it the phone speaks its own
    #[arg(long, value_name = "WAV")]
    pub play: Option<PathBuf>,
    /// Where to keep what was heard
    #[arg(long, value_name = "WAV")]
    pub record: Option<PathBuf>,
    /// How long to talk
    #[arg(long, value_name = "S", default_value_t = 10)]
    pub seconds: u32,
    /// opus, pcma or pcmu; without it all three are offered
    #[arg(long, value_parser = codec)]
    pub codec: Option<AudioCodec>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

fn codec(text: &str) -> Result<AudioCodec, String> {
    let known = [AudioCodec::Opus, AudioCodec::Pcma, AudioCodec::Pcmu];
    let found = known.into_iter().find(|codec| codec.encoding_name().eq_ignore_ascii_case(text));
    found.ok_or_else(|| "write opus, pcma or pcmu".to_owned())
}
