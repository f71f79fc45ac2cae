package main

import (
	"encoding/json"
	"strings"
	"testing"
)

// What a scenario says of a value, and whether it holds: a runner that finds everything right finds nothing.
func TestExpectationsHoldOrDoNot(t *testing.T) {
	var result result
	content := `{"text": "One.", "number": "7", "zero": "0", "list": [{"n": 0}, {"n": 1}], "none": [],
		"state": "STATE_UNSPECIFIED", "error": {"code": "ABORTED"}}`
	if err := json.Unmarshal([]byte(content), &result); err != nil {
		t.Fatal(err)
	}
	for expectation, holds := range map[string]bool{
		`{"text": "One."}`: true, `{"text": "Two."}`: false, `{"text": ["One."]}`: false,
		`{"number": 7}`: true, `{"number": 8}`: false, `{"number": {"not": 7}}`: false, `{"number": {"not": 8}}`: true,
		`{"zero": 0}`: true, `{"absent": 0}`: true, `{"absent": ""}`: true, `{"none": []}`: true, `{"text": ""}`: false,
		`{"state": ""}`: true, `{"absent": {"present": false}}`: true, `{"text": {"present": false}}`: false,
		`{"state": {"present": true}}`: false, `{"list.*.n": [0, 1]}`: true, `{"list.*.n": [0, 2]}`: false,
		`{"list.-1.n": 1}`: true, `{"list.2": {"present": true}}`: false, `{"error.code": "ABORTED"}`: true,
		`{"list": {"length": 2}}`: true, `{"absent": {"length": 1}}`: false,
		`{"list.*.n": {"counts_from": 0}}`: true, `{"list.*.n": {"counts_from": 1}}`: false,
		`{"list.*.n": {"same_items": [1, 0]}}`: true, `{"list.*.n": {"same_items": [1, 1]}}`: false,
		`{"text": {"matches": "^On"}}`: true, `{"text": {"matches": "^n"}}`: false,
		`{"text": {"prefix_of": "One.Two."}}`: true, `{"text": {"prefix_of": "Two."}}`: false,
		`{"text": {"one_of": ["Two.", "One."]}}`: true, `{"text": {"one_of": ["Two."]}}`: false,
		`{"error": {"code": "ABORTED"}}`: true, `{"error": {"code": "ABORTED", "reason": "X"}}`: false,
	} {
		var expected map[string]any
		if err := json.Unmarshal([]byte(expectation), &expected); err != nil {
			t.Fatal(err)
		}
		if err := mismatch(result, expected); (err == nil) != holds {
			t.Errorf("%s: expected %v, observed %v", expectation, holds, err)
		}
	}
}

func TestVariablesArePutIn(t *testing.T) {
	variables := newVariables(map[string]any{"long": map[string]any{"repeat": "ab", "times": 2.0}})
	variables.values["first"] = map[string]any{"calls": []any{map[string]any{"id": "c1"}}, "sequence": "4"}
	given := map[string]any{
		"whole": "${first.calls}", "inside": "say ${long} ${first.sequence}", "id": "${id.r}", "again": "${id.r}",
	}
	resolved, err := variables.resolve(given)
	if err != nil {
		t.Fatal(err)
	}
	found := resolved.(map[string]any)
	if find(found, "whole.0.id") != "c1" || found["inside"] != "say abab 4" || found["id"] != found["again"] {
		t.Errorf("observed %v", found)
	}
	if _, err := variables.resolve("${later.id}"); err == nil || !strings.Contains(err.Error(), "${later}") {
		t.Errorf("expected an error that names it, observed %v", err)
	}
}
