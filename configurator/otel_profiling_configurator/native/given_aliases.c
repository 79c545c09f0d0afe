/* Which aliases samples were given of late.
 *
 * The recorder finds a sample's labels only after the sampler has read it, and on a busy machine much later. Until then the labels
 * must stay at the agent, whatever has become of the span and of its thread.
 */

#include "native.h"

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
    if (count > 0 && atomic_load(&given[(count - 1) % GIVEN].alias) == alias
        && atomic_load(&given[(count - 1) % GIVEN].sample) == sample) {
        return;  /* a thread that is sampled for several periods at once */
    }
    atomic_store(&given[count % GIVEN].sample, sample);
    atomic_store(&given[count % GIVEN].alias, alias);
    atomic_store(&given_count, count + 1);
}

int
given_aliases_have(uint64_t alias, unsigned long now, unsigned long within)
{
    unsigned count = atomic_load(&given_count);
    for (unsigned i = 1; i <= GIVEN; i++) {  /* the latest first */
        uint64_t other = atomic_load(&given[(count - i) % GIVEN].alias);
        if (other == alias) {
            return (long)(now - atomic_load(&given[(count - i) % GIVEN].sample)) <= (long)within;
        }
        if (other == 0 || (long)(now - atomic_load(&given[(count - i) % GIVEN].sample)) > (long)within) {
            return 0;
        }
    }
    return 1;  /* it may be among those before */
}
