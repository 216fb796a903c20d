# What one does with this repository. `just` alone lists it.

default:
    @just --list

# The payment system under load, live in the terminal.
demo:
    cargo run --release --bin gemba -- demo

# The deployment system: two regions under load, a good version and a bad one, live in the terminal.
demo-deployment *ARGS:
    cargo run --release --bin deployment -- demo {{ARGS}}

# The deployment system against its targets, nginx beside its splitter: words select (`throughput`, `overhead`, `share`,
# `handover`, `rollout`, `simulated`), --quick, --json.
bench-deployment *ARGS:
    cargo bench --quiet -p gemba-deployment --bench deployment -- {{ARGS}}

# The deployment system's manager, killed in the middle of deliveries under load: --kills N, --seed S, --rate N, --json.
torture-deployment *ARGS:
    cargo run --release --bin deployment -- torture {{ARGS}}

# All tests.
test:
    cargo test --workspace

# What CI asks of every change before the tests.
check:
    cargo fmt --all --check
    cargo clippy --workspace --all-targets -- -D warnings
    RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps

# Admission, routing, a signal's way to a worker and back, a worker's way back from a panic; a word selects one.
bench *WORD:
    cargo bench -p gemba-tests --bench spine -- {{WORD}}

# Ours beside Erlang's, kameo's and ractor's supervision; a word selects rows, --quick, --rounds N, --markdown, --json.
bench-otp *ARGS:
    cd tests/peers/ractor-supervisor && cargo build --release --locked --quiet
    cd tests/peers/otp && cargo run --release --locked --quiet -- {{ARGS}}

# Flow control beside eight others, in real and in virtual time, and what things cost: targets, figures, verdicts; plots in
# target/experiments/. Words select (`virtual`, `E1`, `crash`), --quick, --rounds N, --json.
experiments *ARGS:
    cargo run --release --quiet --bin gemba-experiments -- {{ARGS}}

# Random scenarios on our supervisors and on Erlang's own: `just conformance --scenarios 5000 --seed 7`.
conformance *ARGS:
    cargo run --release --bin conformance -- {{ARGS}}

# Whether that comparison finds bugs put into `core::supervision` on purpose.
mutants:
    tests/conformance/mutants

# The real actors under chaos in virtual time, every seed twice: `just determinism --seeds 1000 --seed 1`; `--show 7`
# writes the log of one.
determinism *ARGS:
    cargo run --release --quiet --bin determinism -- {{ARGS}}

# How many lines of each crate the tests of the crates and the system reach; fails below 80 %. Needs `cargo install
# cargo-llvm-cov` and `rustup component add llvm-tools`, and 8 GB in target/coverage.
coverage:
    CARGO_PROFILE_DEV_DEBUG=0 CARGO_TARGET_DIR=target/coverage cargo llvm-cov --workspace --exclude gemba-payment \
        --exclude gemba-deployment --exclude conformance --exclude gemba-determinism --exclude gemba-experiments \
        --json --summary-only --output-path target/coverage.json
    .ci/coverage target/coverage.json 80

# The cells of crates/flow in every order in which threads may run (loom).
models *WORD:
    cargo test --release --quiet -p gemba-flow --features loom --lib models::{{WORD}}

# Writes the generated parts of docs/ anew.
docs:
    BLESS=1 cargo test -q -p gemba-tests --test system tidy
    BLESS=1 cargo test -q -p gemba-cli picture
    BLESS=1 cargo test -q -p gemba-payment --test config page

# The adapter for Kubernetes against an API server of the tests, which is held to a recording of a real one.
kubernetes *ARGS:
    cargo test -p gemba-deployment adapter {{ARGS}}

# Records a real API server anew, from an empty cluster without controllers (docs/testing.md); needs KUBECONFIG.
kubernetes-record:
    cargo run --quiet -p gemba-deployment --features kubernetes --example kubernetes-record

# All that CI runs.
ci:
    .ci/run
