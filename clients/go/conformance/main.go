// Command conformance plays the scenarios that all of Parley's clients have in common, as the README of
// clients/conformance says: PARLEY_CONFORMANCE=/path/of/parameters.json go run ./conformance
package main

import (
	"encoding/json"
	"fmt"
	"log"
	"os"
	"time"

	parley "parley.dev/go"
)

type parameters struct {
	Scenarios string
	Clients   map[string]struct{ Address, Token string }
}

type scenario struct {
	Name  string
	Let   map[string]any
	Steps []step
}

type step struct {
	Call       string
	Client     string
	With       map[string]any
	Until      map[string]int
	Background bool
	Eventually bool
	As         string
	Wait       string
	Expect     map[string]any
}

type line struct {
	Name string `json:"name"`
	OK   bool   `json:"ok"`
	Why  string `json:"why"`
	MS   int64  `json:"ms"`
}

func main() {
	var given parameters
	read(os.Getenv("PARLEY_CONFORMANCE"), &given)
	var all struct{ Scenarios []scenario }
	read(given.Scenarios, &all)

	clients := map[string]*parley.Client{}
	client := func(name string) (*parley.Client, error) {
		if known := clients[name]; known != nil {
			return known, nil
		}
		options := []parley.Option{parley.WithPlaintext()}
		if token := given.Clients[name].Token; token != "" {
			options = append(options, parley.WithToken(token))
		}
		made, err := parley.New(given.Clients[name].Address, options...)
		clients[name] = made
		return made, err
	}
	lines := json.NewEncoder(os.Stdout)
	for _, each := range all.Scenarios {
		began := time.Now()
		told := line{Name: each.Name, OK: true}
		if err := play(each, client); err != nil {
			told.OK, told.Why = false, err.Error()
		}
		told.MS = time.Since(began).Milliseconds()
		if err := lines.Encode(told); err != nil {
			log.Fatal(err)
		}
	}
}

func read(path string, into any) {
	content, err := os.ReadFile(path)
	if err == nil {
		err = json.Unmarshal(content, into)
	}
	if err != nil {
		log.Fatal(fmt.Errorf("PARLEY_CONFORMANCE has to name the runner's parameters: %w", err))
	}
}
