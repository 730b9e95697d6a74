#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    tablerelay_fuzz::error_reply(bytes);
});
