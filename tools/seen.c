// SPDX-License-Identifier: GPL-2.0-only
/* What the checker knows of blocks, see seen.h. Callers: the checker. */
#include "tools/seen.h"

#define damaged(seen, ...)	((seen)->check->damaged++, dynmap_err(__VA_ARGS__))

bool seen_init(struct seen *seen, struct dynmap_pool *pool, const struct holders *holders,
	       struct dynmap_check *check, u64 memory)
{
	const struct dynmap_geometry *geo = &pool->geo;
	u32 dev;

	seen->pool = pool;
	seen->holders = holders;
	seen->check = check;
	seen->memory = memory;
	for (dev = 0; dev < geo->nr_devs; dev++)
		seen->base[dev + 1] = seen->base[dev] + geo->dev[dev].slots;
	seen->end = seen->base[geo->nr_devs];
	seen->segment = dynmap_zalloc(seen->end * sizeof(*seen->segment));
	return seen->segment;
}

void seen_exit(struct seen *seen)
{
	u32 at;

	for (at = 0; seen->segment && at < seen->base[seen->pool->geo.nr_devs]; at++)
		seen_drop(seen, at);
	dynmap_free(seen->segment);
}

/* Place of a block's segment among all. */
static u32 segment_at(const struct seen *seen, u64 pbn)
{
	u32 segment = dynmap_pbn_segment(pbn);

	return seen->base[dynmap_segment_dev(segment)] + dynmap_segment_slot(segment);
}

void seen_drop(struct seen *seen, u32 at)
{
	struct seen_segment *segment = seen->segment[at];
	u32 i;

	if (!segment)
		return;
	for (i = 0; i < SEEN_CHUNKS; i++) {
		if (segment->chunk[i].block)
			seen->used -= SEEN_CHUNK_BLOCKS * sizeof(struct seen_block);
		dynmap_free(segment->chunk[i].block);
	}
	seen->used -= sizeof(*segment);
	dynmap_free(segment);
	seen->segment[at] = NULL;
}

/* Memory for segment @at of the window; NULL if the window does not reach there any more. */
static void *seen_alloc(struct seen *seen, u32 at, size_t bytes)
{
	u64 sets = sizeof(u32) * seen->holders->set_room;
	void *memory;

	while (seen->end > seen->from + 1 && seen->used + bytes + sets > seen->memory)
		seen_drop(seen, --seen->end);
	if (at >= seen->end)
		return NULL;
	memory = dynmap_zalloc(bytes);
	seen->no_memory |= !memory;
	seen->used += memory ? bytes : 0;
	return memory;
}

/* What is known of the segment of a block; NULL: it is not in the window. */
static struct seen_segment *seen_segment(struct seen *seen, u64 pbn)
{
	u32 at = segment_at(seen, pbn);

	if (at < seen->from || at >= seen->end)
		return NULL;
	if (!seen->segment[at])
		seen->segment[at] = seen_alloc(seen, at, sizeof(**seen->segment));
	return seen->segment[at];
}

/* What is known of each block of a chunk; NULL: it is not in the window any more. */
static struct seen_block *seen_blocks(struct seen *seen, u64 pbn, struct seen_chunk *chunk)
{
	struct seen_block *block;
	u32 i;

	if (chunk->block)
		return chunk->block;
	/* To make room this segment may go. */
	block = seen_alloc(seen, segment_at(seen, pbn), SEEN_CHUNK_BLOCKS * sizeof(*block));
	for (i = 0; block && i < SEEN_CHUNK_BLOCKS; i++)
		block[i] = chunk->all;
	if (block)
		chunk->block = block;
	return block;
}

/* Something is told of a block. */
static void tell(struct seen *seen, u64 pbn, struct seen_block *block,
		 const struct seen_news *news)
{
	u32 before = block->user & ~SEEN_NODE;
	u64 weight = 0;

	if (!block->birth) {
		block->birth = news->birth;
		before = SEEN_NO_USER;
	}
	if (block->birth != news->birth) {
		damaged(seen, "block %llu: born in generation %u, and in %u",
			(unsigned long long)pbn, block->birth, news->birth);
		return;
	}
	block->weight += news->given;
	block->user = before | news->kind | (block->user & SEEN_NODE);
	if (news->first == HOLDERS_NONE)
		return;
	if (before != SEEN_NO_USER && news->first <= before) {
		damaged(seen, "block %llu is used twice by one volume", (unsigned long long)pbn);
		return;
	}
	if (!holders_step(seen->holders, before == SEEN_NO_USER ? HOLDERS_NONE : before,
			  news->first, news->last, news->birth, &weight))
		damaged(seen, "block %llu: used by volumes that cannot share it",
			(unsigned long long)pbn);
	block->weight -= weight;
	block->user = news->last | (block->user & SEEN_NODE);
}

static bool is_same(const struct seen_block *a, const struct seen_block *b)
{
	return a->birth == b->birth && a->user == b->user && a->weight == b->weight;
}

void seen_tell(struct seen *seen, u64 pbn, u64 len, const struct seen_news *news)
{
	struct seen_block before, after, *block = NULL;
	struct seen_segment *segment;
	struct seen_chunk *chunk;
	bool told = false;
	u32 index;

	for (; len; pbn++, len--) {
		segment = seen_segment(seen, pbn);
		if (!segment)
			return;
		index = dynmap_pbn_index(pbn) % SEEN_CHUNK_BLOCKS;
		chunk = &segment->chunk[dynmap_pbn_index(pbn) / SEEN_CHUNK_BLOCKS];
		if (!index && len >= SEEN_CHUNK_BLOCKS && !chunk->block) {
			tell(seen, pbn, &chunk->all, news);
			pbn += SEEN_CHUNK_BLOCKS - 1;
			len -= SEEN_CHUNK_BLOCKS - 1;
			block = NULL;
			continue;
		}
		if (!block || !index)
			block = seen_blocks(seen, pbn, chunk);
		if (!block)
			return;
		/* Neighbours are often alike. */
		if (told && is_same(&block[index], &before)) {
			block[index] = after;
			continue;
		}
		before = block[index];
		tell(seen, pbn, &block[index], news);
		after = block[index];
		told = true;
	}
}

bool seen_birth(struct seen *seen, u64 pbn, u32 birth, u32 newest)
{
	if (birth && birth <= newest)
		return true;
	damaged(seen, "block %llu: born in generation %u", (unsigned long long)pbn, birth);
	return false;
}

void seen_mark(struct seen *seen, u64 pbn, u64 len, u32 birth, bool is_node, bool shared)
{
	struct seen_segment *segment = seen_segment(seen, pbn);
	u32 index = dynmap_pbn_index(pbn), end = index + len, word, last;
	u64 bits, clash;

	if (!segment || !seen_birth(seen, pbn, birth, seen->pool->cache.generation))
		return;
	for (; index < end; index = last) {
		word = index / 64;
		last = min(end, (word + 1) * 64);
		bits = ~0ULL >> (64 - (last - index)) << index % 64;
		clash = bits & (shared ? segment->alone : segment->reached)[word];
		if (clash)
			damaged(seen, "blocks from %llu, mask %016llx: used twice",
				(unsigned long long)(pbn - dynmap_pbn_index(pbn) + word * 64),
				(unsigned long long)clash);
		segment->data += is_node ? 0 : hweight64(bits & ~segment->reached[word]);
		segment->reached[word] |= bits;
		if (!shared)
			segment->alone[word] |= bits;
	}
}

bool seen_covers(struct seen *seen, u64 pbn)
{
	return seen_segment(seen, pbn);
}
