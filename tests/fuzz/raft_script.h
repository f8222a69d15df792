/* Raft messages by script, from members and strangers, whose fields are near what would fit the
 * replica that gets them. For raft_fuzz.c and group_fuzz.c. */
#ifndef TESTS_FUZZ_RAFT_SCRIPT_H
#define TESTS_FUZZ_RAFT_SCRIPT_H

#include "raft/rsm/codec.h"
#include "raft/util/crc32c.h"
#include "raft/wire.h"
#include "tests/fuzz/fuzz.h"

static inline raft_index script_index(struct script *script, const struct raft *raft)
{
    uint8_t dice = fuzz_u8(script);

    switch (dice % 8) {
    case 0:
        return dice / 8;
    case 1:
        return raft_commit_index(raft) + dice / 8 % 3;
    case 2:
        return raft_first_index(raft) + dice / 8 % 3 - 1;
    case 3:
        return fuzz_number(script, raft_commit_index(raft));
    default:
        return raft_last_index(raft) + dice / 8 % 4 - 1;
    }
}

static inline raft_term script_term(struct script *script, const struct raft *raft)
{
    uint8_t dice = fuzz_u8(script);

    return dice == 255  ? fuzz_u64(script)
           : dice > 230 ? raft_current_term(raft) + 1
           : dice > 210 ? raft_current_term(raft) - 1
                        : raft_current_term(raft);
}

/* A command as the runtime writes it: a header, then text that a service may or may not know. */
static inline struct blob *script_command(struct script *script)
{
    static const char *const words[] = {"inc", "dec", "null", "other"};
    struct rsm_entry_header header = {.stamp = 1 + fuzz_number(script, 1000000)};
    struct buf bytes = {0};
    struct blob *blob;
    uint8_t dice = fuzz_u8(script);

    header.stamp += header.stamp == 0;
    rsm_entry_header_write(&header, buf_extend(&bytes, RSM_ENTRY_HEADER_BYTES));
    buf_put_slice(&bytes, dice < 200 ? slice_text(words[dice % 4]) : fuzz_short(script));
    if (dice > 250) {
        bytes.data[fuzz_u8(script) % bytes.len] ^= fuzz_u8(script);
    }
    blob = blob_create(buf_slice(&bytes));
    buf_fini(&bytes);
    return blob;
}

static inline struct blob *script_configuration(struct script *script, const struct raft *raft)
{
    struct raft_configuration configuration = *raft_latest_configuration(raft);
    struct buf bytes = {0};
    struct blob *blob;
    uint8_t dice = fuzz_u8(script);

    if (configuration.n > 0 && dice < 128) {
        configuration.servers[dice % configuration.n].flags =
            (uint8_t)(1u << fuzz_u8(script) % 3 | 1u << fuzz_u8(script) % 3);
    } else if (configuration.n > 1 && dice < 160) {
        configuration.n--;
    }
    raft_configuration_encode(&configuration, &bytes);
    if (dice > 220) {
        bytes.data[fuzz_u8(script) % bytes.len] ^= fuzz_u8(script);
    }
    blob = blob_create(buf_slice(&bytes));
    buf_fini(&bytes);
    return blob;
}

static inline void script_append(struct script *script, const struct raft *raft,
                                 struct raft_append *append)
{
    append->prev_log_index = script_index(script, raft);
    append->prev_log_term = fuzz_u8(script) < 192 ? raft_term_at(raft, append->prev_log_index)
                                                  : script_term(script, raft);
    append->commit_index = script_index(script, raft);
    append->read_round = fuzz_u8(script) % 5;
    append->n_entries = fuzz_u8(script) % 4;
    append->entries =
        append->n_entries == 0 ? NULL : mem_zalloc(append->n_entries * sizeof(*append->entries));
    for (size_t i = 0; i < append->n_entries; i++) {
        struct raft_entry *entry = &append->entries[i];
        uint8_t dice = fuzz_u8(script);

        entry->index = append->prev_log_index + 1 + i + (dice == 255);
        entry->index += entry->index == 0;
        entry->term = dice < 200 ? raft_current_term(raft) : script_term(script, raft);
        entry->term += entry->term == 0;
        entry->type = dice % 8 == 0   ? RAFT_ENTRY_NOOP
                      : dice % 8 == 1 ? RAFT_ENTRY_CONFIGURATION
                                      : RAFT_ENTRY_COMMAND;
        if (entry->type == RAFT_ENTRY_CONFIGURATION) {
            entry->data = script_configuration(script, raft);
        } else if (entry->type == RAFT_ENTRY_COMMAND) {
            entry->data = script_command(script);
        }
    }
}

static inline void script_chunk(struct script *script, const struct raft *raft,
                                struct raft_install_snapshot *chunk)
{
    uint8_t dice = fuzz_u8(script);
    struct slice data = fuzz_take(script, dice % 16);

    chunk->meta.index = script_index(script, raft);
    chunk->meta.term = chunk->meta.index == 0 ? 0 : script_term(script, raft);
    chunk->meta.term += chunk->meta.index != 0 && chunk->meta.term == 0;
    chunk->meta.configuration = *raft_latest_configuration(raft);
    chunk->offset = dice < 200 ? 4u * (dice % 4) : fuzz_number(script, 4);
    chunk->done = dice % 3 == 0;
    chunk->data = blob_create(data);
    chunk->checksum = crc32c(0, data.data, data.len) + (dice == 255);
}

/* Owned by the caller. It encodes. */
static inline struct raft_message script_message(struct script *script, const struct raft *raft)
{
    struct raft_message message = {.to = raft_self(raft)};
    uint8_t dice = fuzz_u8(script);

    message.type = (enum raft_message_type)(1 + dice % 9);
    message.from = dice < 240 ? 2 + dice / 9 % 2 : fuzz_u8(script);
    message.from += message.from == 0;
    message.term = script_term(script, raft);
    message.term += message.term == 0;
    switch (message.type) {
    case RAFT_MESSAGE_REQUEST_VOTE:
        message.request_vote =
            (struct raft_request_vote){script_index(script, raft), script_term(script, raft),
                                       fuzz_u8(script) & 1, fuzz_u8(script) & 1};
        break;
    case RAFT_MESSAGE_VOTE_REPLY:
        message.vote_reply = (struct raft_vote_reply){fuzz_u8(script) < 192, fuzz_u8(script) & 1};
        message.term += message.vote_reply.pre_vote && message.term < UINT64_MAX;
        break;
    case RAFT_MESSAGE_APPEND:
        script_append(script, raft, &message.append);
        break;
    case RAFT_MESSAGE_APPEND_REPLY:
        message.append_reply.rejected = fuzz_u8(script) & 1;
        message.append_reply.match_index = script_index(script, raft);
        message.append_reply.rejected_index = script_index(script, raft);
        message.append_reply.hint_index = script_index(script, raft);
        message.append_reply.hint_term = script_term(script, raft);
        message.append_reply.read_round = fuzz_u8(script) % 9;
        break;
    case RAFT_MESSAGE_HEARTBEAT:
        message.heartbeat.commit_index = script_index(script, raft);
        message.heartbeat.read_round = fuzz_u8(script) % 5;
        break;
    case RAFT_MESSAGE_HEARTBEAT_REPLY:
        message.heartbeat_reply.read_round = fuzz_number(script, 3);
        break;
    case RAFT_MESSAGE_INSTALL_SNAPSHOT:
        script_chunk(script, raft, &message.install_snapshot);
        break;
    case RAFT_MESSAGE_INSTALL_SNAPSHOT_REPLY:
        message.install_snapshot_reply.index = script_index(script, raft);
        message.install_snapshot_reply.offset = fuzz_number(script, 32);
        message.install_snapshot_reply.installed = fuzz_u8(script) & 1;
        break;
    case RAFT_MESSAGE_TIMEOUT_NOW:
        break;
    }
    return message;
}

#endif
