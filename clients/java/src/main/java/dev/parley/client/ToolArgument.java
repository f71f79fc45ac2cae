package dev.parley.client;

import java.lang.annotation.ElementType;
import java.lang.annotation.Retention;
import java.lang.annotation.RetentionPolicy;
import java.lang.annotation.Target;

/** What the model is told of a tool's argument, a component of a record. */
@Retention(RetentionPolicy.RUNTIME)
@Target(ElementType.RECORD_COMPONENT)
public @interface ToolArgument {

    /** What it is. */
    String value() default "";

    /** Whether the model may leave it out: it is null then, or the default of its primitive type. */
    boolean optional() default false;
}
