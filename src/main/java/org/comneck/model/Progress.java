package org.comneck.model;

/** Told how far a long task is. Called from the thread that does the task. */
@FunctionalInterface
public interface Progress {
    /** Says nothing to nobody. */
    Progress NONE = (what, done, total) -> {};

    /**
     * @param what what is being worked on: a tensor's name, a step
     * @param doneBytes bytes done so far, never falling within a task
     * @param totalBytes bytes to do
     */
    void report(String what, long doneBytes, long totalBytes);
}
