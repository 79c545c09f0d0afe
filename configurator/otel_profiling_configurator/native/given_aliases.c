/* Which aliases samples were given of late.
 *
 * The recorder finds a sample's labels only after the sampler has read it, and on a busy machine much later. Until then the labels
 * must stay at the agent, whatever has become of the span and of its thread.
 */

#include "native.h"

/* Samples by which one is recorded, however busy the processors are, as agent_library.c counts them: by the clocks each two or three
 * times. */
enum {SAMPLES_TO_RECORD = 6};

enum {GIVEN = 256};

static struct {
    _Atomic uint64_t alias;
    _Atomic unsigned long sample;  /* that was given it */
} given[GIVEN];
static _Atomic unsigned given_count;

void
given_aliases_note(uint64_t alias, unsigned long sample)
{
    unsigned count = atomic_load(&given_count);  /* there is one sampler */
    atomic_store(&given[count % GIVEN].sample, sample);
    atomic_store(&given[count % GIVEN].alias, alias);
    atomic_store(&given_count, count + 1);
}

int
given_aliases_have(uint64_t alias, unsigned long now)
{
    unsigned count = atomic_load(&given_count);
    for (unsigned i = 1; i <= GIVEN; i++) {  /* the latest first */
        if (now - atomic_load(&given[(count - i) % GIVEN].sample) > SAMPLES_TO_RECORD) {
            return 0;
        }
        if (atomic_load(&given[(count - i) % GIVEN].alias) == alias) {
            return 1;
        }
    }
    return 0;
}
