#!/bin/sh
# Builds the client and its runner: conformance/build.sh FOLDER writes into it what `java @FOLDER/runner` needs.
set -eu
folder=$1
mvn -q -B -ntp -Dstyle.color=never compile \
    dependency:build-classpath -Dmdep.outputFile="$folder/classpath" -Dmdep.includeScope=test >&2
classpath="$PWD/target/classes:$(cat "$folder/classpath")"
javac -Xlint:all,-path -Werror -proc:none --release 17 -d "$folder/classes" -cp "$classpath" conformance/*.java
echo "-cp \"$folder/classes:$classpath\" dev.parley.conformance.Runner" > "$folder/runner"
