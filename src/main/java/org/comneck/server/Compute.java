package org.comneck.server;

import java.util.List;

/** What the scheduler's threads do with requests: the seam between queueing and arithmetic. */
interface Compute {
    /**
     * First stage of a request whose body is a photo: decodes it. May answer the work, which then goes no further; so does throwing.
     */
    void prepare(Work work);

    /**
     * Computes a batch of one kind on one model: answers every work in it. What it leaves open, or throws about, is answered as
     * {@link Reason#INTERNAL}.
     */
    void compute(List<Work> batch);
}
