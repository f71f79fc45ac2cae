package dev.parley.client;

/** A tool has failed, with a text that is meant for the model; of any other exception it is told the class alone. */
public class ToolException extends RuntimeException {

    private static final long serialVersionUID = 1;

    /** Says to the model how the tool failed, such as "There is no such article." */
    public ToolException(String text) {
        super(text);
    }
}
