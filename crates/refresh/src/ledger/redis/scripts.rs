//! What Redis does in one step. Every script has keys of one slot.

use std::sync::LazyLock;

use redis::Script;

/// Replaces the record KEYS[1] by ARGV[2], for ARGV[3] milliseconds, if it still begins with
/// ARGV[1] (its nonce; empty: there is none), and publishes ARGV[5] on ARGV[4]. Else says what is
/// there, which may be nothing: an empty string.
pub(super) static REPLACE: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        "local found = redis.call('GET', KEYS[1]) or ''
         if string.sub(found, 1, 12) ~= ARGV[1] then return found end
         redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
         redis.call('PUBLISH', ARGV[4], ARGV[5])
         return false",
    )
});

/// Replaces the entry KEYS[1] by ARGV[2], for ARGV[3] milliseconds, if it still begins with ARGV[1].
/// Says whether it did (1 or 0).
pub(super) static REPLACE_ENTRY: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        "local found = redis.call('GET', KEYS[1]) or ''
         if string.sub(found, 1, 12) ~= ARGV[1] then return 0 end
         redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
         return 1",
    )
});

/// Takes the claim KEYS[1] for ARGV[1], for ARGV[2] milliseconds, unless somebody has it. Says
/// whether that worked (1 or 0), and what stands in the record KEYS[2].
pub(super) static CLAIM: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        "local taken = redis.call('SET', KEYS[1], ARGV[1], 'NX', 'PX', ARGV[2])
         return { taken and 1 or 0, redis.call('GET', KEYS[2]) or '' }",
    )
});

/// Renews the claim KEYS[1] of ARGV[1] for ARGV[2] milliseconds: 1, or 0 where it is somebody
/// else's by now.
pub(super) static RENEW: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        "if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
         return redis.call('PEXPIRE', KEYS[1], ARGV[2])",
    )
});

/// Gives the claim KEYS[1] of ARGV[1] back, and publishes ARGV[3] on ARGV[2].
pub(super) static RELEASE: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        "if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
         redis.call('DEL', KEYS[1])
         redis.call('PUBLISH', ARGV[2], ARGV[3])
         return 1",
    )
});
