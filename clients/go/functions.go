package parley

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"unicode/utf8"
)

// Function is a tool that this process runs; see [Client.RunWithTools]. [NewFunction] makes one of a function of Go.
type Function struct {
	// Tool is what the model is told.
	Tool *Tool
	// Run runs a call, whose arguments are a JSON object as the model wrote it, and returns its result as text or JSON.
	// It may be called by several goroutines at once.
	Run func(ctx context.Context, call *PendingCall) (string, error)

	wrong error // why it cannot be a tool
}

// ToolError is an error of a [Function] whose text is meant for the model, such as ToolError("There is no such article.").
// Of any other error the model is told the type alone.
type ToolError string

// Error returns the text.
func (e ToolError) Error() string { return string(e) }

// NewFunction makes a tool of a function of Go. Arguments is a struct, and the tool's JSON Schema is derived from it: a
// field has the name of its json tag, and the description of its jsonschema tag; it is required unless it is a pointer or
// says omitempty or omitzero.
//
//	parley.NewFunction("price", "Says what an article costs.",
//		func(ctx context.Context, in struct {
//			Article string `json:"article" jsonschema:"Its name."`
//		}, call *parley.PendingCall) (int, error) {
//			return prices[in.Article], nil
//		})
//
// Arguments that do not fit do not reach the function: the model is told what is wrong with them. A result that is no
// string is told as JSON. What acts should use call.GetCallKey() as its idempotency key: a call that is repeated, such as
// after a crash, has the same one.
//
// [Client.RunWithTools] refuses a function whose Arguments have no schema, such as those with interfaces. Fill in a
// [Function] yourself for these.
func NewFunction[Arguments, Result any](
	name, description string,
	run func(ctx context.Context, arguments Arguments, call *PendingCall) (Result, error),
) Function {
	schema, err := schemaOf[Arguments]()
	if err != nil {
		return Function{Tool: &Tool{Name: name}, wrong: err}
	}
	return Function{
		Tool: &Tool{Name: name, Description: description, ParametersSchema: schema.String()},
		Run: func(ctx context.Context, call *PendingCall) (string, error) {
			var arguments Arguments
			if err := schema.read(call.GetArguments(), &arguments); err != nil {
				return "", err
			}
			result, err := run(ctx, arguments, call)
			if err != nil {
				return "", err
			}
			return resultText(result)
		},
	}
}

// read fills in a function's arguments; the error is for the model.
func (s *schema) read(text string, into any) error {
	var given any
	if err := json.Unmarshal([]byte(text), &given); err != nil {
		return ToolError("The arguments are not a JSON object.")
	}
	if _, isObject := given.(map[string]any); !isObject {
		return ToolError("The arguments are not a JSON object.")
	}
	if err := s.mismatch(given, ""); err != nil {
		return err
	}
	err := json.Unmarshal([]byte(text), into)
	var mismatch *json.UnmarshalTypeError
	switch {
	case errors.As(err, &mismatch):
		return ToolError(fmt.Sprintf("The argument %q cannot be %s.", mismatch.Field, mismatch.Value))
	case err != nil:
		return ToolError("The arguments do not fit the tool's schema.")
	}
	return nil
}

// mismatch says which argument within a value is missing, or is none. Values of the wrong type are left to the decoder.
func (s *schema) mismatch(value any, path string) error {
	switch value := value.(type) {
	case nil:
		return ToolError(fmt.Sprintf("The argument %q is missing.", path))
	case []any:
		for _, each := range value {
			if s.Items == nil {
				return nil // no list is wanted
			}
			if err := s.Items.mismatch(each, path+"[]"); err != nil {
				return err
			}
		}
	case map[string]any:
		return s.objectMismatch(value, path)
	}
	return nil
}

func (s *schema) objectMismatch(given map[string]any, path string) error {
	if s.Type != "object" {
		return nil // no object is wanted
	}
	if path != "" {
		path += "."
	}
	for _, name := range s.Required {
		if given[name] == nil {
			return ToolError(fmt.Sprintf("The argument %q is missing.", path+name))
		}
	}
	values, _ := s.Additional.(*schema) // of a map
	for _, name := range slices.Sorted(maps.Keys(given)) {
		of, isNamed := s.Properties[name]
		switch {
		case isNamed && given[name] == nil: // as if it were left out
			continue
		case !isNamed:
			of = values
		}
		if of == nil {
			return ToolError(fmt.Sprintf("There is no argument %q.", path+name))
		}
		if err := of.mismatch(given[name], path+name); err != nil {
			return err
		}
	}
	return nil
}

func resultText(result any) (string, error) {
	if text, isText := result.(string); isText {
		return text, nil
	}
	text, err := json.Marshal(result)
	return string(text), err
}

// maxResultBytes is how long a result or an error may be.
const maxResultBytes = 65_536

// unfit says why a result cannot be sent; empty: it can.
func unfit(result string) string {
	switch {
	case len(result) > maxResultBytes:
		return fmt.Sprintf("The tool's result has %d bytes, and %d are the most.", len(result), maxResultBytes)
	case !utf8.ValidString(result) || strings.ContainsRune(result, 0):
		return "The tool's result is not text."
	}
	return ""
}

// toldOf returns what the model is told of a function's error.
func toldOf(err error) string {
	var forModel ToolError
	if errors.As(err, &forModel) && forModel != "" && unfit(string(forModel)) == "" {
		return string(forModel)
	}
	kind := fmt.Sprintf("%T", err)
	for inner := errors.Unwrap(err); kind == "*fmt.wrapError" && inner != nil; inner = errors.Unwrap(inner) {
		kind = fmt.Sprintf("%T", inner)
	}
	return fmt.Sprintf("The tool failed (%s).", kind)
}

// byName returns the functions by their names.
func byName(functions []Function) (map[string]Function, error) {
	known := map[string]Function{}
	for _, each := range functions {
		name := each.Tool.GetName()
		_, isTaken := known[name]
		switch {
		case each.wrong != nil:
			return nil, fmt.Errorf("parley: the tool %q: %w", name, each.wrong)
		case each.Tool == nil || each.Run == nil:
			return nil, fmt.Errorf("parley: the tool %q needs a Tool and a Run", name)
		case isTaken:
			return nil, fmt.Errorf("parley: there are two tools %q: their names have to differ", name)
		}
		known[name] = each
	}
	return known, nil
}

// withTools returns a request's tools and those of functions.
func withTools(tools []*Tool, functions []Function) []*Tool {
	all := slices.Clone(tools)
	for _, each := range functions {
		all = append(all, each.Tool)
	}
	return all
}
