package dev.parley.client;

/**
 * Whether the server may run a call that needs an approval.
 *
 * @param isApproved whether it may
 * @param reason why not, for the model; may be empty
 */
public record Decision(boolean isApproved, String reason) {

    /** It may run, once, with the arguments that were shown. */
    public static Decision approve() {
        return new Decision(true, "");
    }

    /** It must not run. */
    public static Decision deny(String reason) {
        return new Decision(false, reason);
    }
}
