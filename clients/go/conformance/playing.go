package main

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	parley "parley.dev/go"
)

const (
	stepLimit       = 60 * time.Second
	eventuallyLimit = 30 * time.Second
	eventuallyPause = 100 * time.Millisecond
)

// player plays one scenario.
type player struct {
	ctx        context.Context
	client     func(name string) (*parley.Client, error)
	variables  *variables
	background map[string]*calling
}

// calling is a call under way.
type calling struct {
	begun  chan struct{}
	ended  chan struct{}
	result result
	defect error
}

// play returns why the scenario has failed.
func play(all scenario, client func(name string) (*parley.Client, error)) error {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel() // ends what still runs
	player := &player{ctx, client, newVariables(all.Let), map[string]*calling{}}
	for n, step := range all.Steps {
		if err := player.take(step); err != nil {
			return fmt.Errorf("step %d (%s), %w", n+1, strings.TrimSpace(step.Call+" "+step.Wait), err)
		}
	}
	return nil
}

func (p *player) take(step step) error {
	switch {
	case step.Wait != "":
		return p.keep(step.Wait, p.background[step.Wait], step.Expect)
	case step.Background:
		calling, err := p.start(step)
		if err != nil {
			return err
		}
		p.background[step.As] = calling
		return within(calling.begun, "nothing came")
	case step.Eventually:
		return p.awaited(step)
	default:
		calling, err := p.start(step)
		if err != nil {
			return err
		}
		return p.keep(step.As, calling, step.Expect)
	}
}

func (p *player) start(step step) (*calling, error) {
	name := step.Client
	if name == "" {
		name = "ada"
	}
	client, err := p.client(name)
	if err != nil {
		return nil, err
	}
	with, err := p.variables.resolve(step.With)
	if err != nil {
		return nil, err
	}
	calling := &calling{begun: make(chan struct{}), ended: make(chan struct{}), result: result{}}
	call := &call{client: client, until: step.Until, result: calling.result, hasBegun: onceClosing(calling.begun)}
	if step.Call == "chat" || step.Call == "resume_turn" { // which tell nothing before they have ended
		call.hasBegun()
	}
	go func() {
		defer close(calling.ended)
		defer call.hasBegun()
		arguments, _ := with.(map[string]any) // nil: there are none
		calling.defect = call.make(p.ctx, step.Call, arguments)
	}()
	return calling, nil
}

// awaited makes a call again until its result is as expected, or time is up.
func (p *player) awaited(step step) error {
	for ends := time.Now().Add(eventuallyLimit); ; time.Sleep(eventuallyPause) {
		calling, err := p.start(step)
		if err != nil {
			return err
		}
		err = p.keep(step.As, calling, step.Expect)
		if err == nil || time.Now().After(ends) {
			return err
		}
	}
}

// keep waits for a call's end, keeps its result under a name, and compares it with what is expected.
func (p *player) keep(name string, calling *calling, expect map[string]any) error {
	if err := within(calling.ended, "no end"); err != nil {
		return err
	}
	if calling.defect != nil {
		return fmt.Errorf("the client returned: %w", calling.defect)
	}
	if name != "" {
		p.variables.values[name] = map[string]any(calling.result)
	}
	isExpected := slices.ContainsFunc(slices.Collect(maps.Keys(expect)), func(path string) bool {
		return path == "error" || strings.HasPrefix(path, "error.")
	})
	if failure, failed := calling.result["error"].(map[string]any); failed && !isExpected {
		return fmt.Errorf("ended with %v %v: %v", failure["code"], failure["reason"], failure["message"])
	}
	expected, err := p.variables.resolve(expect)
	if err != nil {
		return err
	}
	return mismatch(calling.result, expected.(map[string]any))
}

func within(happens <-chan struct{}, otherwise string) error {
	select {
	case <-happens:
		return nil
	case <-time.After(stepLimit):
		return fmt.Errorf("%s within %v", otherwise, stepLimit)
	}
}
