package parley

import (
	"encoding"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
)

// schema is a JSON Schema, as far as types of Go need one.
type schema struct {
	Type        string             `json:"type"`
	Description string             `json:"description,omitempty"`
	Properties  map[string]*schema `json:"properties,omitzero"`
	Required    []string           `json:"required,omitempty"`
	Items       *schema            `json:"items,omitempty"`
	// Additional is the schema of a map's values, or false.
	Additional any `json:"additionalProperties,omitempty"`
}

// String returns the schema as JSON text, the same text every time: it is part of what makes a request the same.
func (s *schema) String() string {
	text, err := json.Marshal(s)
	if err != nil {
		panic(err) // it has only what JSON has
	}
	return string(text)
}

const deepest = 16 // a type that is deeper contains itself

// schemaOf derives the schema of a function's arguments.
func schemaOf[Arguments any]() (*schema, error) {
	of := reflect.TypeFor[Arguments]()
	if of.Kind() != reflect.Struct {
		return nil, fmt.Errorf("its arguments have to be a struct, and not %v", of)
	}
	return objectSchema(of, 0)
}

var (
	fromText = reflect.TypeFor[encoding.TextUnmarshaler]()
	fromJSON = reflect.TypeFor[json.Unmarshaler]()
)

func schemaOfType(of reflect.Type, depth int) (*schema, error) {
	if depth > deepest {
		return nil, errors.New("its arguments contain themselves")
	}
	switch pointer := reflect.PointerTo(of); {
	case pointer.Implements(fromText): // time.Time, UUIDs
		return &schema{Type: "string"}, nil
	case pointer.Implements(fromJSON):
		return nil, fmt.Errorf("its arguments have a %v, of whose JSON nothing is known", of)
	}
	switch of.Kind() {
	case reflect.Bool:
		return &schema{Type: "boolean"}, nil
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64,
		reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return &schema{Type: "integer"}, nil
	case reflect.Float32, reflect.Float64:
		return &schema{Type: "number"}, nil
	case reflect.String:
		return &schema{Type: "string"}, nil
	case reflect.Pointer:
		return schemaOfType(of.Elem(), depth+1)
	case reflect.Struct:
		return objectSchema(of, depth)
	case reflect.Slice:
		if of.Elem().Kind() != reflect.Uint8 { // those are base64 in JSON
			items, err := schemaOfType(of.Elem(), depth+1)
			return &schema{Type: "array", Items: items}, err
		}
	case reflect.Map:
		if of.Key().Kind() == reflect.String {
			values, err := schemaOfType(of.Elem(), depth+1)
			return &schema{Type: "object", Additional: values}, err
		}
	}
	return nil, fmt.Errorf("its arguments have a %v, for which there is no schema", of)
}

func objectSchema(of reflect.Type, depth int) (*schema, error) {
	object := &schema{Type: "object", Properties: map[string]*schema{}, Additional: false}
	for field := range of.Fields() {
		name, options, _ := strings.Cut(field.Tag.Get("json"), ",")
		switch {
		case field.Anonymous:
			return nil, fmt.Errorf("its arguments embed %v: give the field a name", field.Type)
		case !field.IsExported() || name == "-" && options == "":
			continue
		case name == "":
			name = field.Name
		}
		if slices.Contains(strings.Split(options, ","), "string") {
			return nil, fmt.Errorf("its argument %q is a number within a string, for which there is no schema", name)
		}
		property, err := schemaOfType(field.Type, depth+1)
		if err != nil {
			return nil, err
		}
		property.Description = field.Tag.Get("jsonschema")
		object.Properties[name] = property
		isOptional := strings.Contains(options, "omit") || field.Type.Kind() == reflect.Pointer
		if !isOptional {
			object.Required = append(object.Required, name)
		}
	}
	return object, nil
}
