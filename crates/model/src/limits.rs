//! Every bound of the product, with the relations between bounds checked when it is compiled.
//!
//! The last word of a name is its unit; a `Duration` carries its own.

use std::time::Duration;

/// A page: the unit of refinement.
pub const PAGE_BYTES: u64 = 4096;
/// Smallest block that may be chosen.
pub const BLOCK_MIN_BYTES: u64 = 16 << 10;
/// Block size when none is chosen.
pub const BLOCK_DEFAULT_BYTES: u64 = 64 << 10;
/// Largest block that may be chosen.
pub const BLOCK_MAX_BYTES: u64 = 1 << 20;
/// Most pages in one block.
pub const PAGES_PER_BLOCK_MAX: usize = (BLOCK_MAX_BYTES / PAGE_BYTES) as usize;
/// Smallest unit read from a source. Of disks of this host larger ones measured slower, since they leave the cache; sources
/// behind a network ask for more.
pub const UNIT_MIN_BYTES: u64 = 256 << 10;
/// Blocks whose entries form one chunk of a manifest.
pub const CHUNK_BLOCKS: u64 = 1024;
/// Blocks scanned and compared together: the step of the pipeline.
pub const SEGMENT_BLOCKS: u64 = 64;
/// Most bytes of one such step, so that large blocks do not make large steps.
pub const SEGMENT_MAX_BYTES: u64 = 4 << 20;
/// Largest disk.
pub const DISK_MAX_BYTES: u64 = 64 << 40;

/// Largest frame on the wire, header included.
pub const FRAME_MAX_BYTES: usize = 2 << 20;
/// Most bytes of pages packed into one data message before compression.
pub const PACK_MAX_BYTES: usize = 1 << 20;
/// Most entries in one digest, page request, reference or zero message.
pub const BATCH_MAX_BLOCKS: usize = 1024;
/// Most page digests in one page reply.
pub const PAGE_REPLY_MAX_PAGES: usize = 16 << 10;

/// Bytes of data on their way from the source's medium to the target's, for one disk.
pub const WINDOW_DEFAULT_BYTES: u64 = 64 << 20;
/// Blocks' digests on their way from target to source before the source has used them.
pub const DIGEST_WINDOW_BLOCKS: u64 = 64 << 10;
/// Blocks with an open page digest request.
pub const REFINE_WINDOW_BLOCKS: usize = 1024;
/// Blocks with an open reference.
pub const REFERENCE_WINDOW_BLOCKS: usize = 4096;
/// Most bytes of blocks that one message offers, but for a single block: what is found goes on to be written at once.
pub const OFFER_MAX_BYTES: u64 = PACK_MAX_BYTES as u64;
/// A commit group closes when it holds this much.
pub const GROUP_MAX_BYTES: u64 = 64 << 20;
/// Longest text that tells a disk from others, such as a GPT disk GUID with its kind.
pub const DISK_MARK_MAX_BYTES: usize = 64;
/// Longest reason that a recovery point is worth no more.
pub const POINT_REASON_MAX_BYTES: usize = 256;
/// Machines of a group were quiesced together where their points' source times are no further apart than this.
pub const GROUP_POINT_SPREAD_MAX: Duration = Duration::from_secs(2);
/// Age up to which every recovery point is kept.
pub const KEEP_ALL_DEFAULT: Duration = Duration::from_secs(2 * 3600);
/// Age up to which one point an hour is kept.
pub const KEEP_HOURLY_DEFAULT: Duration = Duration::from_secs(24 * 3600);
/// Age up to which one point in two hours is kept, where points are kept that long.
pub const KEEP_TWO_HOURLY_MAX: Duration = Duration::from_secs(7 * 24 * 3600);
/// Age up to which one point in four hours is kept, where points are kept that long.
pub const KEEP_FOUR_HOURLY_MAX: Duration = Duration::from_secs(15 * 24 * 3600);
/// Free space for undo below which no pass begins, when none is chosen.
pub const LOW_SPACE_DEFAULT_BYTES: u64 = 1 << 30;
/// A forecast further off than this is none.
pub const FORECAST_MAX: Duration = Duration::from_secs(365 * 24 * 3600);
/// Blocks of a source that its request for a session names, 16 KiB each, for the target to judge whether it is another
/// disk.
pub const SAMPLE_MAX_BLOCKS: usize = 256;
/// Data messages and zero messages without acknowledgement.
pub const UNACKNOWLEDGED_MAX_MESSAGES: usize = 64 << 10;
/// Blocks that one pass may list as unrepairable before it stops listing.
pub const MISMATCH_LIST_MAX_BLOCKS: usize = 256;

/// Largest descriptor text of a VMDK.
pub const DESCRIPTOR_MAX_BYTES: usize = 1 << 20;
/// Smallest grain of a sparse VMDK.
pub const GRAIN_MIN_BYTES: u64 = 4 << 10;
/// Largest grain of a sparse VMDK; VMware writes 64 KiB.
pub const GRAIN_MAX_BYTES: u64 = 4 << 20;
/// Grain tables of one sparse extent held in memory, 2 KiB each.
pub const GRAIN_TABLES_MAX: usize = 4096;
/// Grains of a foreign sparse VMDK that may lie off the grain raster.
pub const STRAY_GRAINS_MAX: usize = 1 << 20;
/// Faults of one sparse extent that are listed before the list stops.
pub const IMAGE_FAULTS_MAX: usize = 64;
/// Inflated grains of a streamOptimized VMDK kept for the next read.
pub const INFLATED_GRAINS_MAX: usize = 16;
/// Grain of a streamOptimized VMDK that is written.
pub const STREAM_GRAIN_BYTES: u64 = 64 << 10;
/// Grains waiting for their turn while a streamOptimized VMDK is written: above this the lowest goes out, and each thread
/// that writes waits for that with one grain in hand.
pub const STREAM_WINDOW_BYTES: u64 = 96 << 20;
/// Space that is taken at once while an image is created; between two such steps it can be stopped.
pub const PROVISION_STEP_BYTES: u64 = 64 << 20;
/// Most extents in a VMDK descriptor.
pub const EXTENTS_MAX: usize = 4096;
/// Bytes that a buffered reader leaves in the page cache behind itself before it drops what it brought in.
pub const DROP_BEHIND_BYTES: u64 = 256 << 20;
/// Memory of one end for reading blocks that differ a second time.
pub const REREAD_POOL_MAX_BYTES: usize = 16 << 20;
/// Threads that may be asked for.
pub const THREADS_MAX: usize = 64;

const _: () = {
    assert!(BLOCK_MIN_BYTES <= BLOCK_DEFAULT_BYTES && BLOCK_DEFAULT_BYTES <= BLOCK_MAX_BYTES);
    assert!(
        BLOCK_MIN_BYTES.is_power_of_two()
            && BLOCK_MAX_BYTES.is_power_of_two()
            && PAGE_BYTES.is_power_of_two()
    );
    assert!(BLOCK_MIN_BYTES > PAGE_BYTES);
    assert!(PACK_MAX_BYTES as u64 >= BLOCK_MAX_BYTES, "a whole block fits one pack");
    assert!(
        PACK_MAX_BYTES + (256 << 10) <= FRAME_MAX_BYTES,
        "a pack, its entries and its header fit one frame"
    );
    assert!(CHUNK_BLOCKS.is_multiple_of(SEGMENT_BLOCKS), "segments do not cross chunks");
    assert!((SEGMENT_BLOCKS * BLOCK_MIN_BYTES).is_multiple_of(UNIT_MIN_BYTES), "a segment is whole units");
    assert!(WINDOW_DEFAULT_BYTES >= 4 * PACK_MAX_BYTES as u64, "the window keeps the pipeline full");
    assert!(PAGE_REPLY_MAX_PAGES >= PAGES_PER_BLOCK_MAX, "a block's page digests fit one reply");
    assert!(PAGE_REPLY_MAX_PAGES * 16 + (256 << 10) <= FRAME_MAX_BYTES, "a page reply fits one frame");
    assert!(GRAIN_MIN_BYTES.is_power_of_two() && GRAIN_MAX_BYTES.is_power_of_two());
    assert!(
        STREAM_WINDOW_BYTES >= WINDOW_DEFAULT_BYTES + (16 << 20),
        "keeping the reach of a new target costs nothing where little is late"
    );
    assert!(OFFER_MAX_BYTES >= BLOCK_MAX_BYTES, "any block can be offered");
    assert!(
        OFFER_MAX_BYTES / BLOCK_MIN_BYTES <= BATCH_MAX_BLOCKS as u64,
        "what one message may offer fits its list"
    );
    assert!(REREAD_POOL_MAX_BYTES >= 4 * PACK_MAX_BYTES, "readers can work side by side");
    assert!(CHUNK_BLOCKS as usize <= BATCH_MAX_BLOCKS, "a trusted chunk's digests are one message");
    assert!(BATCH_MAX_BLOCKS * 40 <= FRAME_MAX_BYTES, "a batch of references fits one frame");
};

/// Most bytes of an id of a machine, a disk or a job.
pub const IDENTITY_MAX_BYTES: usize = 64;
/// Most bytes of an error's code or words on the wire.
pub const ERROR_TEXT_MAX_BYTES: usize = 4096;
/// Largest frame while a connection is set up, header included: nothing larger is read from a peer that is not yet known.
pub const SETUP_FRAME_MAX_BYTES: usize = 16 << 10;
/// Data connections of a session when none are chosen.
pub const DATA_CONNECTIONS_DEFAULT: usize = 4;
/// Most data connections of a session.
pub const DATA_CONNECTIONS_MAX: usize = 32;
/// Bytes that a peer may make us hold before its connection is known.
pub const UNKNOWN_PEER_MAX_BYTES: usize = 64 << 10;
/// Most that the ends' clocks may differ.
pub const CLOCK_SKEW_MAX: Duration = Duration::from_secs(5 * 60);
/// Difference of the ends' clocks from which on it is told of.
pub const CLOCK_SKEW_NOTICED: Duration = Duration::from_secs(5);
/// Silence after which a ping asks whether the peer is there.
pub const PING_IDLE: Duration = Duration::from_secs(10);
/// Silence after which a peer is gone.
pub const IDLE_MAX: Duration = Duration::from_secs(45);
/// Time for which a pass may stand still while it is the other end's turn, however alive that end is.
pub const STALL_MAX: Duration = Duration::from_secs(15 * 60);
/// How often a sending end that compares says so, where it has nothing else to say.
pub const WORK_SIGN_INTERVAL: Duration = Duration::from_secs(60);
/// Time for each step of setting a connection up: TLS, the first frame, its answer.
pub const SETUP_MAX: Duration = Duration::from_secs(10);
/// Time for the answer to a request to open a session: the target may have to end an older session first.
pub const WELCOME_MAX: Duration = Duration::from_secs(45);
/// Time for the peer's goodbye after ours.
pub const GOODBYE_MAX: Duration = Duration::from_secs(10);
/// Blocks of one pass that the target did not take and that are sent again, whole, before the pass gives up.
pub const RESENT_MAX_BLOCKS: usize = BATCH_MAX_BLOCKS * CHUNK_BLOCKS as usize;
/// What a link has not taken this long after its end was asked to stop is given up.
pub const STOP_MAX: Duration = Duration::from_secs(1);
/// Acknowledgements that have not come this long after an end was asked to stop are not waited for.
pub const STOP_ACKNOWLEDGED_MAX: Duration = Duration::from_secs(5);
/// A commit group closes at this age.
pub const GROUP_MAX_AGE: Duration = Duration::from_secs(2);

const _: () = {
    assert!(
        3 * IDENTITY_MAX_BYTES
            + DISK_MARK_MAX_BYTES
            + POINT_REASON_MAX_BYTES
            + (5 + 16) * SAMPLE_MAX_BLOCKS
            + 256
            <= SETUP_FRAME_MAX_BYTES,
        "a request to open a session fits its frame"
    );
    assert!(2 * ERROR_TEXT_MAX_BYTES + 64 <= SETUP_FRAME_MAX_BYTES, "so does a refusal");
    assert!(
        SETUP_FRAME_MAX_BYTES * 2 <= UNKNOWN_PEER_MAX_BYTES,
        "a frame and what the TLS layer holds of it"
    );
    assert!(DATA_CONNECTIONS_DEFAULT >= 1 && DATA_CONNECTIONS_DEFAULT <= DATA_CONNECTIONS_MAX);
    assert!(PING_IDLE.as_secs() * 4 <= IDLE_MAX.as_secs(), "three lost answers are not yet the end");
    assert!(SETUP_MAX.as_secs() <= WELCOME_MAX.as_secs());
    assert!(STOP_MAX.as_secs() < STOP_ACKNOWLEDGED_MAX.as_secs());
    assert!(
        GROUP_MAX_AGE.as_secs() * 2 < STOP_ACKNOWLEDGED_MAX.as_secs(),
        "a group closes and is told of before that"
    );
    assert!(
        KEEP_ALL_DEFAULT.as_secs() <= KEEP_HOURLY_DEFAULT.as_secs()
            && KEEP_HOURLY_DEFAULT.as_secs() <= KEEP_TWO_HOURLY_MAX.as_secs()
            && KEEP_TWO_HOURLY_MAX.as_secs() <= KEEP_FOUR_HOURLY_MAX.as_secs(),
        "points get scarcer with age"
    );
    assert!(CLOCK_SKEW_NOTICED.as_secs() < CLOCK_SKEW_MAX.as_secs(), "it is told of before it is refused");
    assert!(
        IDLE_MAX.as_secs() < STALL_MAX.as_secs(),
        "a peer that is gone is not waited for as one that hangs"
    );
    assert!(
        WORK_SIGN_INTERVAL.as_secs() * 4 <= STALL_MAX.as_secs(),
        "one that works is not taken for one that hangs"
    );
    assert!(GROUP_MAX_AGE.as_secs() < PING_IDLE.as_secs(), "acknowledgements come before pings");
};

/// Most blocks of a disk.
pub const DISK_MAX_BLOCKS: u64 = DISK_MAX_BYTES / BLOCK_MIN_BYTES;
/// A segment of a journal closes at this length.
pub const JOURNAL_SEGMENT_MAX_BYTES: u64 = 64 << 20;
/// Longest record of a journal, header and padding included.
pub const JOURNAL_RECORD_MAX_BYTES: usize = 2 << 20;
/// Most digests written into one record.
pub const JOURNAL_RECORD_MAX_DIGESTS: usize = 16 << 10;
/// Most ranges written into one record.
pub const JOURNAL_RECORD_MAX_RANGES: usize = 16 << 10;
/// Most disks of one machine.
pub const JOURNAL_DISKS_MAX: usize = 256;
/// Most trusted ranges of all disks that one checkpoint keeps: above it the shortest are scanned again.
pub const JOURNAL_TRUSTED_RANGES_MAX: usize = 1 << 20;
/// Most bytes of a run whose intent is logged ahead of the blocks that need it.
pub const JOURNAL_AHEAD_BYTES: u64 = 64 << 20;
/// The same while no writer has to wait for the journal: what a link of ordinary speed needs.
pub const JOURNAL_AHEAD_MIN_BYTES: u64 = 4 << 20;
/// Runs that are announced at once: what is scanned again after a crash, besides the open groups.
pub const JOURNAL_AHEAD_WINDOWS: usize = 3;
/// Longest account of what a disk's files looked like when it was left: of more, its first lines are kept.
pub const LOOK_MAX_BYTES: usize = 8 << 10;
/// Bytes of trusted blocks that are read again before each pass, to notice what else wrote to the target.
pub const RECHECK_BYTES: u64 = 16 << 20;
/// Bytes at the start of a device that are always among those: partition table and first superblock.
pub const RECHECK_HEAD_BYTES: u64 = 2 << 20;
/// Runs that are looked at for such blocks.
pub const RECHECK_STEPS_MAX: usize = 1 << 16;
/// Bytes of a journal read at once while it is recovered.
pub const JOURNAL_READ_BYTES: usize = 1 << 20;
/// Most recovery points of a machine.
pub const POINTS_MAX: usize = 1024;
/// Most bytes of pages in one piece of undo.
pub const UNDO_PIECE_MAX_BYTES: usize = 256 << 10;
/// Old bytes that are read for undo before they are appended.
pub const UNDO_BATCH_BYTES: u64 = 1 << 20;
/// A segment of undo is closed before its pages are more than this, whatever they take: what a rollback holds at once. A run
/// of zeros counts as a page for each 256 of it.
pub const UNDO_SEGMENT_PLAIN_BYTES: u64 = 64 << 20;
/// Old bytes are compressed where their log takes less than this.
pub const UNDO_SLOW_BYTES_PER_SECOND: u64 = 100 << 20;
/// Pages of a disk that thinning remembers at once.
pub const UNDO_SEEN_PAGES: u64 = 1 << 29;

const _: () = {
    assert!(DISK_MAX_BLOCKS <= 1 << 32, "a block's index fits 32 bits");
    assert!(40 * JOURNAL_RECORD_MAX_DIGESTS + 64 <= JOURNAL_RECORD_MAX_BYTES, "digests fit one record");
    assert!(
        40 * JOURNAL_RECORD_MAX_DIGESTS + 16 * JOURNAL_RECORD_MAX_RANGES + 64 <= JOURNAL_RECORD_MAX_BYTES,
        "and ranges beside them"
    );
    assert!(
        UNDO_BATCH_BYTES as usize / 4096 * 24
            + UNDO_BATCH_BYTES as usize / (16 << 10) * 40
            + UNDO_BATCH_BYTES as usize
            + 64
            <= JOURNAL_RECORD_MAX_BYTES,
        "old bytes that were read at once fit one record, each page a piece of its own"
    );
    assert!(
        16 * JOURNAL_TRUSTED_RANGES_MAX as u64
            + (512 + LOOK_MAX_BYTES as u64) * JOURNAL_DISKS_MAX as u64
            + POINTS_MAX as u64 * (512 + 64 * JOURNAL_DISKS_MAX as u64)
            <= JOURNAL_SEGMENT_MAX_BYTES - (16 << 20),
        "a checkpoint leaves room in its segment"
    );
    assert!(LOOK_MAX_BYTES + 128 <= JOURNAL_RECORD_MAX_BYTES, "what was seen fits one record");
    assert!(RECHECK_HEAD_BYTES < RECHECK_BYTES && RECHECK_BYTES >= BLOCK_MAX_BYTES);
    assert!(JOURNAL_AHEAD_MIN_BYTES >= PACK_MAX_BYTES as u64, "what one message writes fits a run");
    assert!(JOURNAL_AHEAD_BYTES >= JOURNAL_AHEAD_MIN_BYTES && JOURNAL_AHEAD_WINDOWS >= 1);
    assert!(
        JOURNAL_AHEAD_BYTES * JOURNAL_AHEAD_WINDOWS as u64 <= 2 * GROUP_MAX_BYTES + WINDOW_DEFAULT_BYTES,
        "no more than what may be sent again"
    );
    assert!(JOURNAL_SEGMENT_MAX_BYTES + JOURNAL_RECORD_MAX_BYTES as u64 <= u32::MAX as u64);
};

/// Connections of a listener that are known: control and data, of all sessions.
pub const CONNECTIONS_MAX: usize = 512;
/// Connections of a listener that are not yet known: above this the oldest of them is dropped.
pub const UNKNOWN_CONNECTIONS_MAX: usize = 64;
/// Connections that wait in the kernel to be accepted.
pub const ACCEPT_BACKLOG: u32 = 1024;
/// Piece in which the socket of an unknown peer is read.
pub const UNKNOWN_READ_BYTES: usize = 4 << 10;
/// Piece in which a socket is read.
pub const SOCKET_READ_BYTES: usize = 128 << 10;
/// Piece in which the head of frames is read.
pub const FRAME_READ_BYTES: usize = 16 << 10;
/// Frames that one connection takes from the queue at once.
pub const WRITE_BATCH_BYTES: u64 = 256 << 10;
/// The same under a throttle, at least.
pub const WRITE_BATCH_MIN_BYTES: u64 = 16 << 10;
/// Plain bytes that the TLS layer holds encrypted until the socket takes them.
pub const TLS_BUFFER_BYTES: usize = 128 << 10;
/// Bulk frames of a link that came and are still in use, beyond the session's window.
pub const INPUT_SLACK_BYTES: usize = 32 << 20;
/// Frames of control of a link that came and are still in use.
pub const CONTROL_INPUT_MAX_BYTES: usize = 16 << 20;
/// What a frame that came costs beside its bytes: many tiny ones must not cost more than a few large ones.
pub const FRAME_OVERHEAD_BYTES: usize = 512;
/// Memory of frames of a link that lies idle until the next ones come.
pub const POOL_IDLE_MAX_BYTES: usize = 8 << 20;
/// Buffers of frames are multiples of this; smaller frames come from the allocator.
pub const POOL_STEP_BYTES: usize = 64 << 10;
/// A frame that has begun brings at least this within [`IDLE_MAX`], until it is complete.
pub const FRAME_PROGRESS_MIN_BYTES: usize = 4 << 10;
/// Time between two of the kernel's questions to a silent peer.
pub const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
/// The kernel's questions to a silent peer before it gives up.
pub const KEEPALIVE_PROBES: u32 = 3;
/// Largest buffer of a socket that is asked for.
pub const SOCKET_BUFFER_MAX_BYTES: usize = 64 << 20;
/// Most entries of a bandwidth schedule.
pub const SCHEDULE_ENTRIES_MAX: usize = 32;
/// How often the schedule is looked at.
pub const RATE_CHECK: Duration = Duration::from_secs(1);
/// What a throttle saves up while nothing is sent.
pub const THROTTLE_BURST: Duration = Duration::from_millis(100);
/// How often a link looks at its clock.
pub const LINK_TICK: Duration = Duration::from_secs(1);
/// Largest file of certificates, keys or revocation lists.
pub const TLS_FILE_MAX_BYTES: u64 = 4 << 20;
/// Certificates that one authority issues.
pub const PKI_CERTIFICATES_MAX: usize = 16 << 10;
/// Names and addresses in one certificate beside its identity.
pub const PKI_NAMES_MAX: usize = 32;
/// Largest file of a certificate authority.
pub const PKI_FILE_MAX_BYTES: u64 = 256 << 20;
/// Largest receipt: each disk's image name may be as long as a path, and all of it escaped twice.
pub const RECEIPT_MAX_BYTES: u64 = 4 << 20;
/// Largest sidecar.
pub const SIDECAR_MAX_BYTES: u64 = 4 << 20;
/// Longest name of an image in a receipt.
pub const RECEIPT_IMAGE_MAX_BYTES: usize = 4096;
/// Validity of a certificate authority when none is chosen.
pub const AUTHORITY_VALIDITY_DEFAULT_DAYS: u32 = 3650;
/// Validity of a certificate when none is chosen.
pub const CERTIFICATE_VALIDITY_DEFAULT_DAYS: u32 = 730;

const _: () = {
    assert!(
        UNKNOWN_READ_BYTES + 2 * SETUP_FRAME_MAX_BYTES <= UNKNOWN_PEER_MAX_BYTES,
        "with a frame of setting up"
    );
    assert!(CONNECTIONS_MAX > 4 * (1 + DATA_CONNECTIONS_MAX), "several sessions fit, however wide");
    assert!(CONTROL_INPUT_MAX_BYTES >= 4 * FRAME_MAX_BYTES && INPUT_SLACK_BYTES >= 4 * FRAME_MAX_BYTES);
    assert!(POOL_IDLE_MAX_BYTES >= 2 * FRAME_MAX_BYTES && POOL_STEP_BYTES < FRAME_MAX_BYTES);
    assert!(FRAME_READ_BYTES <= SETUP_FRAME_MAX_BYTES && WRITE_BATCH_MIN_BYTES <= WRITE_BATCH_BYTES);
    assert!(
        PKI_CERTIFICATES_MAX as u64 * 40 <= TLS_FILE_MAX_BYTES,
        "a list that revokes everything can be read"
    );
    assert!(PKI_CERTIFICATES_MAX as u64 * (PKI_NAMES_MAX as u64 * 300 + 512) <= PKI_FILE_MAX_BYTES);
    assert!(AUTHORITY_VALIDITY_DEFAULT_DAYS > CERTIFICATE_VALIDITY_DEFAULT_DAYS);
};

/// Largest configuration file.
pub const CONFIG_MAX_BYTES: u64 = 4 << 20;
/// Largest file of a daemon's own state, journals aside.
pub const STATE_FILE_MAX_BYTES: u64 = 64 << 20;
/// Machines that one daemon knows.
pub const MACHINES_MAX: usize = 1024;
/// Disks of one machine.
pub const DISKS_PER_MACHINE_MAX: usize = 64;
/// Runs of blocks that are listed of what something else wrote to a disk.
pub const FOREIGN_RANGES_MAX: usize = 16;
/// Longest name of a disk's slot.
pub const SLOT_MAX_BYTES: usize = 64;
/// Longest request or reply on the control socket, its newline included.
pub const CONTROL_LINE_MAX_BYTES: usize = 256 << 10;
/// Control connections at once.
pub const CONTROL_CONNECTIONS_MAX: usize = 64;
/// Time for a request to arrive once it has begun, and for a reply to be taken.
pub const CONTROL_LINE_MAX: Duration = Duration::from_secs(10);
/// Silence after which a control connection that waits for requests is closed.
pub const CONTROL_IDLE_MAX: Duration = Duration::from_secs(300);
/// Jobs whose outcome a daemon remembers.
pub const JOBS_KEPT: usize = 1024;
/// Events kept for a subscriber that comes later, or lags behind.
pub const EVENTS_KEPT: usize = 1024;
/// Connections of the admin port at once.
pub const ADMIN_CONNECTIONS_MAX: usize = 32;
/// Largest head of a request to the admin port.
pub const ADMIN_HEAD_MAX_BYTES: usize = 8 << 10;
/// Time for a request to the admin port, head and answer.
pub const ADMIN_REQUEST_MAX: Duration = Duration::from_secs(10);
/// The share of the memory budget that every running disk has at least.
pub const BUDGET_UNIT_BYTES: u64 = 8 << 20;
/// Memory budget of a daemon when none is chosen: contents under way, all disks together.
pub const BUDGET_DEFAULT_BYTES: u64 = 128 << 20;
/// First wait before a connection is tried again.
pub const BACKOFF_FIRST: Duration = Duration::from_secs(1);
/// Longest wait before a connection is tried again.
pub const BACKOFF_MAX: Duration = Duration::from_secs(30);
/// Time for a session to end once a newer one of the same disk wants its place.
pub const TAKEOVER_MAX: Duration = Duration::from_secs(20);
/// Time for a hook around a snapshot when none is chosen.
pub const HOOK_TIMEOUT_DEFAULT: Duration = Duration::from_secs(60);
/// Longest time that may be chosen for it.
pub const HOOK_TIMEOUT_MAX: Duration = Duration::from_secs(60 * 60);
/// Time for applications to be let go on once a daemon stops in the middle of a snapshot.
pub const HOOK_THAW_MAX: Duration = Duration::from_secs(30);
/// Time for what a hook wrote to arrive once it ended: what it leaves behind may hold its output open.
pub const HOOK_OUTPUT_MAX: Duration = Duration::from_secs(1);
/// Time for a hook that was killed to be gone.
pub const HOOK_KILLED_MAX: Duration = Duration::from_secs(5);
/// What is kept for the log of each of a hook's outputs.
pub const HOOK_OUTPUT_MAX_BYTES: usize = 8 << 10;
/// Arguments of a hook.
pub const HOOK_ARGUMENTS_MAX: usize = 64;

/// Closed cycles whose outcomes are remembered.
pub const CYCLES_KEPT: usize = 32;
/// Ranges of blocks that are remembered of what feeds named since a sealed state; more are joined over the smallest gaps.
pub const NAMED_RANGES_MAX: usize = 64 << 10;
/// Blocks that may differ from a sealed state whose digests are copied, so that the target need not tell its own.
pub const BASE_COPIED_MAX_BLOCKS: u64 = 256 << 10;
/// What of a source's unnamed blocks is read again in each cycle, to notice a feed that leaves something out.
pub const FEED_CHECK_BYTES: u64 = 16 << 20;
/// How long a final cycle may take before the source is started again.
pub const FINAL_TIMEOUT_DEFAULT: Duration = Duration::from_secs(60 * 60);
/// Time for passes to close their commit groups when a daemon stops.
pub const DRAIN_MAX: Duration = Duration::from_secs(60);

const _: () = {
    assert!(
        // A control character is six bytes in the payload, and its backslash one more in the file.
        DISKS_PER_MACHINE_MAX as u64 * (7 * RECEIPT_IMAGE_MAX_BYTES as u64 + 1024) + 4096
            <= RECEIPT_MAX_BYTES,
        "a receipt of a whole machine can be read"
    );
    assert!(CONTROL_LINE_MAX_BYTES * JOBS_KEPT <= STATE_FILE_MAX_BYTES as usize * 4, "jobs are small");
    assert!(BUDGET_UNIT_BYTES >= 4 * PACK_MAX_BYTES as u64, "a unit keeps a pipeline full");
    assert!(BUDGET_DEFAULT_BYTES >= 4 * BUDGET_UNIT_BYTES, "four disks run at once");
    assert!(BUDGET_UNIT_BYTES <= WINDOW_DEFAULT_BYTES && WINDOW_DEFAULT_BYTES <= BUDGET_DEFAULT_BYTES);
    assert!(BACKOFF_FIRST.as_secs() < BACKOFF_MAX.as_secs());
    assert!(HOOK_TIMEOUT_DEFAULT.as_secs() <= HOOK_TIMEOUT_MAX.as_secs());
    assert!(
        HOOK_THAW_MAX.as_secs() + 2 * (HOOK_KILLED_MAX.as_secs() + HOOK_OUTPUT_MAX.as_secs())
            < DRAIN_MAX.as_secs(),
        "a daemon that stops lets applications go on first"
    );
    assert!(TAKEOVER_MAX.as_secs() < IDLE_MAX.as_secs(), "whoever asks still waits for the answer");
};

/// Blocks that are read to predict a pass by.
pub const FORECAST_BLOCKS: u64 = 256;
/// How often a job with a deadline or a budget looks at its pace.
pub const PACE_TICK: Duration = Duration::from_secs(1);
/// Slowest pace that is chosen, bytes a second.
pub const PACE_MIN_BYTES: u64 = 64 << 10;
/// How long before its deadline a job means to be done; in its last minute it goes as fast as it may.
pub const PACE_RESERVE: Duration = Duration::from_secs(60);
/// What is noted of a budget ahead of being sent: a daemon that is killed has sent no more than was noted.
pub const EGRESS_STEP_BYTES: u64 = 64 << 20;

const _: () = {
    assert!(PACE_TICK.as_secs() >= RATE_CHECK.as_secs() && PACE_MIN_BYTES >= WRITE_BATCH_MIN_BYTES);
};

/// Longest name of an export, a context or a text that an NBD server may send.
pub const NBD_TEXT_MAX_BYTES: usize = 4096;
/// Longest reply to an option of an NBD server.
pub const NBD_OPTION_REPLY_MAX_BYTES: usize = 64 << 10;
/// Most replies to one option.
pub const NBD_OPTION_REPLIES_MAX: usize = 4096;
/// Names of exports or bitmaps that an error lists.
pub const NBD_LISTED_MAX: usize = 16;
/// Data asked for by one request.
pub const NBD_REQUEST_BYTES: u32 = 256 << 10;
/// The same of a server that prefers more.
pub const NBD_REQUEST_MAX_BYTES: u32 = 4 << 20;
/// Requests under way on one connection.
pub const NBD_IN_FLIGHT_MAX: usize = 16;
/// Largest smallest block of a server.
pub const NBD_MIN_BLOCK_MAX_BYTES: u32 = 64 << 10;
/// Most extents in one reply.
pub const NBD_EXTENTS_MAX: usize = 128 << 10;
/// Bytes of the disk whose extents are asked for at once.
pub const NBD_MAP_BYTES: u64 = 1 << 30;
/// Replies about extents that are kept.
pub const NBD_MAPS_KEPT: usize = 8;
/// Most connections to one export.
pub const NBD_CONNECTIONS_MAX: usize = 16;
/// Time for connecting and negotiating.
pub const NBD_SETUP_MAX: Duration = Duration::from_secs(15);
/// The same of a connection beside one that stands: the server may let no more in.
pub const NBD_FURTHER_SETUP_MAX: Duration = Duration::from_secs(3);
/// Silence of a server that owes a reply, after which its connection is given up.
pub const NBD_SILENCE_MAX: Duration = Duration::from_secs(30);
/// Time for the data of one reply once it has begun.
pub const NBD_REPLY_MAX: Duration = Duration::from_secs(300);
/// Time for finding a server again whose connection was lost.
pub const NBD_RECONNECT_MAX: Duration = Duration::from_secs(10);
/// Times that one call begins anew on another connection.
pub const NBD_RETRIES: usize = 2;
/// Largest list of extents that names changes.
pub const EXTENT_LIST_MAX_BYTES: u64 = 256 << 20;
/// Most extents in it.
pub const EXTENT_LIST_MAX: usize = 4 << 20;

const _: () = {
    assert!(NBD_REQUEST_BYTES as u64 == UNIT_MIN_BYTES && NBD_REQUEST_BYTES <= NBD_REQUEST_MAX_BYTES);
    assert!(NBD_MIN_BLOCK_MAX_BYTES <= NBD_REQUEST_BYTES, "a request holds at least one block");
    assert!(NBD_TEXT_MAX_BYTES + 16 <= NBD_OPTION_REPLY_MAX_BYTES);
    assert!(NBD_MAP_BYTES <= u32::MAX as u64, "the length of a request is 32 bits");
    assert!(NBD_FURTHER_SETUP_MAX.as_secs() <= NBD_SETUP_MAX.as_secs());
    assert!(NBD_SETUP_MAX.as_secs() <= NBD_SILENCE_MAX.as_secs());
    assert!(NBD_SILENCE_MAX.as_secs() <= NBD_REPLY_MAX.as_secs());
};

/// Snapshots of a disk that Azure makes within [`AZURE_SNAPSHOT_WINDOW`].
pub const AZURE_SNAPSHOTS_PER_WINDOW: usize = 7;
/// Time over which Azure counts the snapshots of a disk.
pub const AZURE_SNAPSHOT_WINDOW: Duration = Duration::from_secs(5 * 60);
/// Snapshots of a disk, or restore points of a machine, that Azure keeps at once.
pub const AZURE_SNAPSHOTS_MAX: usize = 500;
/// Snapshots of one disk that Azure gives access to at once.
pub const AZURE_ACCESSES_MAX: usize = 5;
/// Azure gives no difference between snapshots where the disk grew across this, bytes.
pub const AZURE_DIFF_BOUNDARY_BYTES: u64 = 4 << 40;
/// How long access to a snapshot is asked for.
pub const AZURE_ACCESS_TIME: Duration = Duration::from_secs(12 * 60 * 60);
/// Access that lasts less than this is renewed before it is used.
pub const AZURE_ACCESS_LEFT_MIN: Duration = Duration::from_secs(60 * 60);
/// Longest that one operation of the cloud is waited for.
pub const AZURE_OPERATION_MAX: Duration = Duration::from_secs(30 * 60);
/// Longest that the copy behind a snapshot of an Ultra or Premium v2 disk is waited for.
pub const AZURE_COPY_MAX: Duration = Duration::from_secs(24 * 60 * 60);
/// Time between two looks at an operation where the cloud names none.
pub const AZURE_POLL: Duration = Duration::from_secs(2);
/// Longest time between two looks, whatever the cloud names.
pub const AZURE_POLL_MAX: Duration = Duration::from_secs(120);
/// Time between two looks at a copy.
pub const AZURE_COPY_POLL: Duration = Duration::from_secs(15);
/// Tries of a request that the cloud was too busy for, or that got no answer.
pub const AZURE_TRIES_MAX: u32 = 8;
/// A request that a killed daemon sent may still be carried out this long after.
pub const AZURE_LATE_MAX: Duration = Duration::from_secs(5 * 60);
/// Pages of a list that are read.
pub const AZURE_LIST_PAGES_MAX: usize = 64;
/// Largest answer of the cloud's management.
pub const AZURE_REPLY_MAX_BYTES: usize = 4 << 20;
/// Longest text of the cloud that a finding repeats.
pub const AZURE_MESSAGE_MAX_BYTES: usize = 512;
/// Largest file or answer with a token.
pub const TOKEN_FILE_MAX_BYTES: u64 = 64 << 10;
/// How long a token is used where nobody says how long it holds.
pub const TOKEN_TIME_DEFAULT: Duration = Duration::from_secs(20 * 60);
/// A token that holds less than this is made anew.
pub const TOKEN_LEFT_MIN: Duration = Duration::from_secs(5 * 60);

const _: () = {
    assert!(TOKEN_LEFT_MIN.as_secs() < TOKEN_TIME_DEFAULT.as_secs());
    assert!(AZURE_ACCESSES_MAX >= 2, "a snapshot and the base of its difference are read at once");
    assert!(AZURE_ACCESS_LEFT_MIN.as_secs() * 2 <= AZURE_ACCESS_TIME.as_secs());
    assert!(AZURE_POLL.as_secs() <= AZURE_POLL_MAX.as_secs());
    assert!(AZURE_POLL_MAX.as_secs() < AZURE_OPERATION_MAX.as_secs());
    assert!(AZURE_LATE_MAX.as_secs() <= AZURE_SNAPSHOT_WINDOW.as_secs(), "what may come late still counts");
};

/// Time for a connection to a service to stand.
pub const HTTP_CONNECT_MAX: Duration = Duration::from_secs(15);
/// Silence of a service after which its answer counts as lost.
pub const HTTP_IDLE_MAX: Duration = Duration::from_secs(60);

const _: () = {
    assert!(NBD_REQUEST_BYTES as u64 == UNIT_MIN_BYTES && NBD_REQUEST_BYTES <= NBD_REQUEST_MAX_BYTES);
    assert!(NBD_MIN_BLOCK_MAX_BYTES <= NBD_REQUEST_BYTES, "a request holds at least one block");
    assert!(NBD_TEXT_MAX_BYTES + 16 <= NBD_OPTION_REPLY_MAX_BYTES);
    assert!(NBD_MAP_BYTES <= u32::MAX as u64, "the length of a request is 32 bits");
    assert!(NBD_SETUP_MAX.as_secs() <= NBD_SILENCE_MAX.as_secs());
    assert!(NBD_SILENCE_MAX.as_secs() <= NBD_REPLY_MAX.as_secs());
};

/// Most bytes of one ranged read of a blob: the service vouches for no longer one by a checksum.
pub const BLOB_READ_MAX_BYTES: u64 = 4 << 20;
/// Part of a blob whose page ranges are asked for at once.
pub const PAGE_LIST_WINDOW_BYTES: u64 = 16 << 30;
/// Ranges in one answer that are asked for.
pub const PAGE_LIST_RESULTS: usize = 10_000;
/// Largest answer that lists ranges: some services give all of a window at once.
pub const PAGE_LIST_MAX_BYTES: usize = 32 << 20;
/// Most ranges in one answer.
pub const PAGE_LIST_ENTRIES_MAX: usize = 512 << 10;
/// Answers that one window may take.
pub const PAGE_LIST_ANSWERS_MAX: usize = 4096;
/// Longest name, marker or time in an answer.
pub const BLOB_TEXT_MAX_BYTES: usize = 4096;
/// Largest answer of a service that is no data.
pub const BLOB_ANSWER_MAX_BYTES: usize = 4 << 20;
/// Longest URL of a blob, its signature included.
pub const BLOB_URL_MAX_BYTES: u64 = 16 << 10;
/// Tries of one request before the pass ends.
pub const BLOB_TRIES_MAX: u32 = 8;
/// First wait before a request is tried again.
pub const BLOB_WAIT_FIRST: Duration = Duration::from_millis(200);
/// Longest wait before a request is tried again, also where the service asks for a longer one.
pub const BLOB_WAIT_MAX: Duration = Duration::from_secs(30);
/// Time in which a new signature may come while a pass is paused.
pub const SIGNATURE_WAIT_MAX: Duration = Duration::from_secs(15 * 60);
/// How often a file is looked at for a new signature.
pub const SIGNATURE_POLL: Duration = Duration::from_secs(2);
/// How often whoever waits looks whether to stop.
pub const STOP_POLL: Duration = Duration::from_millis(200);
/// How often a command whose output is wanted is looked at.
pub const COMMAND_POLL: Duration = Duration::from_millis(50);
/// Signatures that may be refused one after the other.
pub const SIGNATURE_TRIES_MAX: u32 = 3;

const _: () = {
    assert!(SEGMENT_MAX_BYTES <= BLOB_READ_MAX_BYTES, "a segment is one request");
    assert!(PAGE_LIST_RESULTS <= PAGE_LIST_ENTRIES_MAX && PAGE_LIST_ENTRIES_MAX * 56 <= PAGE_LIST_MAX_BYTES);
    assert!(BLOB_WAIT_FIRST.as_millis() < BLOB_WAIT_MAX.as_millis());
    assert!(SIGNATURE_POLL.as_secs() < SIGNATURE_WAIT_MAX.as_secs());
    assert!(
        STOP_POLL.as_millis() < STOP_MAX.as_millis() && COMMAND_POLL.as_millis() <= STOP_POLL.as_millis()
    );
};
