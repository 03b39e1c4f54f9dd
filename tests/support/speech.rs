//! Speech by espeak-ng, and the judgement whether somebody heard it (narrowband PESQ, ITU-T P.862).

use super::{lane::Lane, wait, wav::Wav};
use std::{
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

/// What real speech through one transcoding must reach.
pub const GOOD: f64 = 3.7;
/// What any other speech stays under.
pub const WRONG: f64 = 2.0;

/// The right to speak: at most so many conversations at once as the machine carries without a stutter.
pub struct Floor {
    _lock: std::fs::File,
}

impl Floor {
    /// Waits for its turn, also behind tests of other processes.
    pub fn take() -> Floor {
        // Two conversations and their transcoding fill a pair of cores for moments; a phone that then loses its turn
        // stutters, and the score would be the machine's.
        let seats = std::thread::available_parallelism().map_or(1, |cores| (cores.get() / 2).clamp(1, 4));
        wait::until("a turn to speak", Duration::from_secs(1_200), || {
            (0..seats).find_map(|seat| {
                let user = std::env::var("USER").unwrap_or_else(|_| "tests".to_owned());
                let path = std::env::temp_dir().join(format!("tandem-floor-{user}-{seat}.lock"));
                let lock =
                    std::fs::File::options().create(true).append(true).open(path).expect("a lock file");
                lock.try_lock().is_ok().then_some(Floor { _lock: lock })
            })
        })
    }
}

/// Who speaks, so that no voice is taken for another.
#[derive(Debug, Clone, Copy)]
pub enum Voice {
    Caller,
    Callee,
}

/// The form in which a peer wants its speech.
#[derive(Debug, Clone, Copy)]
pub struct Form {
    pub rate: u32,
    pub channels: u16,
}

/// baresip's aufile takes nothing else for Opus.
pub const BARESIP_OPUS: Form = Form { rate: 48_000, channels: 2 };
/// baresip's aufile takes nothing else for G.711.
pub const BARESIP_G711: Form = Form { rate: 8_000, channels: 1 };
pub const LINPHONE: Form = Form { rate: 48_000, channels: 1 };

impl Voice {
    /// About nine seconds of English.
    fn text(self) -> &'static str {
        match self {
            Voice::Caller => {
                "The gateway carries speech between two networks. Seven ships sailed from the northern \
                 harbour, and nobody on the shore knew why."
            }
            Voice::Callee => {
                "Good morning, this is the operator speaking. Please hold the line while we look for a \
                 quiet place near the old railway station."
            }
        }
    }

    /// Writes the speech as `file`: half a second of silence, the words, and `after` of silence.
    ///
    /// The silence behind is there because baresip hangs up where its file ends.
    pub fn record(self, file: &Path, form: Form, after: Duration) {
        let raw = file.with_extension("espeak.wav");
        let (voice, pitch, speed) = match self {
            Voice::Caller => ("en-us+f3", "45", "150"),
            Voice::Callee => ("en-gb+m3", "60", "140"),
        };
        run(Command::new("espeak-ng")
            .args(["-v", voice, "-p", pitch, "-s", speed, "-w"])
            .arg(&raw)
            .arg(self.text()));
        let (rate, channels) = (form.rate.to_string(), form.channels.to_string());
        let pause = after.as_secs_f64().to_string();
        let mut sox = Command::new("sox");
        sox.arg("-D").arg(&raw).args(["-b", "16", "-r", &rate, "-c", &channels]).arg(file);
        run(sox.args(["gain", "-n", "-6", "pad", "0.5", &pause]));
        let mut wav = Wav::read(file);
        add_room(&mut wav);
        wav.write(file);
    }
}

/// Adds the faint noise that every microphone has, about -60 dB of full scale below 4 kHz.
///
/// Without it PESQ takes the steps of G.711 around digital silence for a fault: plain A-law scores 3.9 instead of 4.3.
fn add_room(wav: &mut Wav) {
    let level = 33.0 * (f64::from(wav.rate) / 8_000.0).sqrt();
    // Marsaglia's xorshift, so that the same words are the same samples each time.
    let mut state = 0x2545_f491_u32;
    for frame in wav.samples.chunks_exact_mut(usize::from(wav.channels)) {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        let noise = (f64::from(state) / f64::from(u32::MAX) * 2.0 - 1.0) * level;
        for sample in frame {
            *sample = (f64::from(*sample) + noise).round() as i16;
        }
    }
}

/// Writes the speech of a voice as bare A-law, as SIPp plays it; the same words stand beside it as a `.wav`.
pub fn a_law(lane: &Lane, voice: Voice) -> PathBuf {
    bare(lane, voice, "a-law", "speech.alaw")
}

/// As [`a_law`], in µ-law.
pub fn mu_law(lane: &Lane, voice: Voice) -> PathBuf {
    bare(lane, voice, "mu-law", "speech.ulaw")
}

fn bare(lane: &Lane, voice: Voice, encoding: &str, name: &str) -> PathBuf {
    let file = lane.path(name);
    let wav = file.with_extension("wav");
    voice.record(&wav, BARESIP_G711, Duration::ZERO);
    let mut sox = Command::new("sox");
    run(sox.arg("-D").arg(&wav).args(BARE).args(["-e", encoding]).arg(&file));
    file
}

/// Makes a WAV of octets of bare µ-law, as somebody was sent them.
pub fn of_mu_law(octets: &[u8], file: &Path) {
    let bare = file.with_extension("ulaw");
    std::fs::write(&bare, octets).expect("a sound file");
    run(Command::new("sox")
        .args(BARE)
        .args(["-e", "mu-law"])
        .arg(&bare)
        .args(["-b", "16", "-e", "signed"])
        .arg(file));
}

/// How sox is told of G.711 in a file without a header.
const BARE: [&str; 6] = ["-t", "raw", "-r", "8000", "-c", "1"];

/// Makes a file of another form.
pub fn convert(from: &Path, to: &Path, form: Form) {
    run(Command::new("sox")
        .arg(from)
        .args(["-b", "16", "-r", &form.rate.to_string()])
        .args(["-c", &form.channels.to_string()])
        .arg(to));
}

fn run(command: &mut Command) {
    let output = command.output().unwrap_or_else(|error| panic!("{:?}: {error}", command.get_program()));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// What the scorer found.
#[derive(Debug, Clone, serde::Deserialize)]
pub struct Score {
    /// 1.0 to 4.5; absent where there is not enough speech to compare.
    pub pesq_nb: Option<f64>,
    pub correlation: f64,
    pub shift_ms: Option<f64>,
    pub heard_ms: u64,
    pub problem: Option<String>,
}

/// Compares what was heard with what was said, wherever in the recording it is.
#[track_caller]
pub fn score(said: &Path, heard: &Path) -> Score {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/tools/pesq_score.py");
    let output =
        Command::new(python()).arg(script).arg(said).arg(heard).output().expect("`make test-deps` was run");
    assert!(output.status.success(), "scoring failed: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("the scorer prints JSON")
}

/// The speech `said` was heard well, and `other` (whoever else spoke) was not.
#[track_caller]
pub fn assert_heard(said: &Path, other: &Path, heard: &Path) {
    let right = score(said, heard);
    let wrong = score(other, heard);
    println!("{}: PESQ {:?}, of the other speech {:?}", heard.display(), right.pesq_nb, wrong.pesq_nb);
    assert!(
        right.pesq_nb.is_some_and(|pesq| pesq >= GOOD),
        "{} in {}: {right:?}",
        said.display(),
        heard.display()
    );
    assert!(wrong.pesq_nb.is_none_or(|pesq| pesq < WRONG), "the wrong speech is heard: {wrong:?}");
}

/// As [`assert_heard`], of speech without an end: among so many words any others fit somewhere by chance.
#[track_caller]
pub fn assert_heard_on_and_on(said: &Path, other: &Path, heard: &Path) {
    let (right, wrong) = (score(said, heard), score(other, heard));
    println!("{}: PESQ {:?}, of the other speech {:?}", heard.display(), right.pesq_nb, wrong.pesq_nb);
    let Some(pesq) = right.pesq_nb.filter(|pesq| *pesq >= GOOD) else {
        panic!("{} in {}: {right:?}", said.display(), heard.display())
    };
    assert!(wrong.pesq_nb.is_none_or(|wrong| wrong < pesq - 1.5), "the wrong speech is heard: {wrong:?}");
}

/// The Python with the scorer's packages, as `make test-deps` made it.
fn python() -> PathBuf {
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from).unwrap_or_else(|| {
        PathBuf::from(std::env::var_os("HOME").unwrap_or_else(|| "/root".into())).join(".cache")
    });
    cache.join("tandem/venv/bin/python")
}
