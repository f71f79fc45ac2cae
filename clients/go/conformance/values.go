package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/google/uuid"
)

var variable = regexp.MustCompile(`\$\{([^}]+)\}`)

// variables are what ${…} stands for in one scenario.
type variables struct {
	values map[string]any
	ids    map[string]string
}

func newVariables(let map[string]any) *variables {
	v := &variables{values: map[string]any{}, ids: map[string]string{}}
	for name, given := range let {
		if repeated, ok := given.(map[string]any); ok {
			given = strings.Repeat(repeated["repeat"].(string), int(repeated["times"].(float64)))
		}
		v.values[name] = given
	}
	return v
}

// resolve returns a value with its variables put in.
func (v *variables) resolve(given any) (any, error) {
	switch given := given.(type) {
	case map[string]any:
		resolved := map[string]any{}
		for name, value := range given {
			each, err := v.resolve(value)
			if err != nil {
				return nil, err
			}
			resolved[name] = each
		}
		return resolved, nil
	case []any:
		resolved := []any{}
		for _, value := range given {
			each, err := v.resolve(value)
			if err != nil {
				return nil, err
			}
			resolved = append(resolved, each)
		}
		return resolved, nil
	case string:
		return v.resolveText(given)
	default:
		return given, nil
	}
}

// resolveText returns the value itself if the text is nothing but a variable.
func (v *variables) resolveText(given string) (any, error) {
	if whole := variable.FindStringSubmatch(given); whole != nil && whole[0] == given {
		return v.value(whole[1])
	}
	var failed error
	text := variable.ReplaceAllStringFunc(given, func(found string) string {
		value, err := v.value(found[2 : len(found)-1])
		if err != nil {
			failed = err
		}
		return asText(value)
	})
	return text, failed
}

func (v *variables) value(path string) (any, error) {
	name, rest, _ := strings.Cut(path, ".")
	if name == "id" {
		if v.ids[rest] == "" {
			v.ids[rest] = uuid.NewString()
		}
		return v.ids[rest], nil
	}
	value, known := v.values[name]
	if !known {
		return nil, fmt.Errorf("there is no ${%s} yet", name)
	}
	return find(value, rest), nil
}

// find returns what is at a path; nil: nothing is.
func find(value any, path string) any {
	if path == "" {
		return value
	}
	step, rest, _ := strings.Cut(path, ".")
	switch value := value.(type) {
	case map[string]any:
		return find(value[step], rest)
	case []any:
		if step == "*" {
			found := []any{}
			for _, item := range value {
				found = append(found, find(item, rest))
			}
			return found
		}
		place, err := strconv.Atoi(step)
		if err == nil && place < 0 {
			place += len(value)
		}
		if err == nil && place >= 0 && place < len(value) {
			return find(value[place], rest)
		}
	}
	return nil
}

// mismatch returns the first thing that is not as expected.
func mismatch(result result, expectations map[string]any) error {
	for _, path := range slices.Sorted(maps.Keys(expectations)) {
		found := find(map[string]any(result), path)
		if !fits(found, expectations[path]) {
			return fmt.Errorf("%s: expected %s, found %s", path, short(expectations[path]), short(found))
		}
	}
	return nil
}

func fits(found, expected any) bool {
	if matcher, ok := expected.(map[string]any); ok && len(matcher) == 1 {
		for name, wanted := range matcher {
			if fits := matchers[name]; fits != nil {
				return fits(found, wanted)
			}
		}
	}
	return equal(found, expected)
}

var matchers = map[string]func(found, wanted any) bool{
	"not":     func(found, wanted any) bool { return !equal(found, wanted) },
	"one_of":  func(found, wanted any) bool { return contains(wanted.([]any), found) },
	"present": func(found, wanted any) bool { return isNothing(found) != wanted },
	"matches": func(found, wanted any) bool { return regexp.MustCompile(wanted.(string)).MatchString(asText(found)) },
	"length":  func(found, wanted any) bool { return float64(len(asList(found))) == wanted },
	"same_items": func(found, wanted any) bool {
		return equal(sorted(asList(found)), sorted(wanted.([]any)))
	},
	"counts_from": func(found, wanted any) bool {
		for n, each := range asList(found) {
			if !equal(each, wanted.(float64)+float64(n)) {
				return false
			}
		}
		return true
	},
	"prefix_of": func(found, wanted any) bool { return strings.HasPrefix(wanted.(string), asText(found)) },
}

func equal(one, other any) bool {
	if isNumberAndText(one, other) || isNumberAndText(other, one) {
		return asText(one) == asText(other) // JSON has 64-bit numbers as text
	}
	if isNothing(one) || isNothing(other) {
		return isNothing(one) && isNothing(other)
	}
	switch one := one.(type) {
	case map[string]any:
		other, ok := other.(map[string]any)
		return ok && haveEqual(one, other) && haveEqual(other, one)
	case []any:
		other, ok := other.([]any)
		return ok && slices.EqualFunc(one, other, equal)
	default:
		return one == other
	}
}

func haveEqual(one, other map[string]any) bool {
	for name := range one {
		if !equal(one[name], other[name]) {
			return false
		}
	}
	return true
}

var digits = regexp.MustCompile(`^-?[0-9]+$`)

func isNumberAndText(number, text any) bool {
	_, isNumber := number.(float64)
	digitsOnly, isText := text.(string)
	return isNumber && isText && digits.MatchString(digitsOnly)
}

func isNothing(value any) bool {
	switch value := value.(type) {
	case nil:
		return true
	case string:
		return value == "" || strings.HasSuffix(value, "_UNSPECIFIED")
	case float64:
		return value == 0
	case bool:
		return !value
	case []any:
		return len(value) == 0
	default:
		return false
	}
}

func contains(list []any, value any) bool {
	return slices.ContainsFunc(list, func(each any) bool { return equal(each, value) })
}

func sorted(list []any) []any {
	return slices.SortedFunc(slices.Values(list), func(one, other any) int {
		return strings.Compare(asText(one), asText(other))
	})
}

func asList(value any) []any {
	list, _ := value.([]any) // nothing is an empty list
	return list
}

func asText(value any) string {
	switch value := value.(type) {
	case nil:
		return ""
	case float64:
		return strconv.FormatFloat(value, 'f', -1, 64)
	default:
		return fmt.Sprint(value)
	}
}

func short(value any) string {
	whole, err := json.Marshal(value)
	if err != nil {
		panic(err) // it came from JSON
	}
	text := []rune(string(whole))
	if len(text) <= 300 {
		return string(text)
	}
	return fmt.Sprintf("%s… (%d characters)", string(text[:300]), len(text))
}
