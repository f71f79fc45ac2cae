// A program around Prometheus' own engine: it reads samples, asks queries of them, and evaluates alerts.
//
// Its input and output are JSON: see input and output.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/textparse"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/rules"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb"
)

type input struct {
	// Pages as scraped, each with the labels of its target, in the order of their times.
	Pages []struct {
		AtS    int64             `json:"at_s"`
		Labels map[string]string `json:"labels"`
		Text   string            `json:"text"`
	} `json:"pages"`
	// Series in the notation of promtool's unit tests, "name{label="x"} 0+10x20", a value each StepS.
	Series []string `json:"series"`
	StepS  int64    `json:"step_s"`
	// Queries, all at QueryAtS.
	Queries  []string `json:"queries"`
	QueryAtS int64    `json:"query_at_s"`
	// A file of alerts, evaluated each StepS up to UntilS.
	Rules  string `json:"rules"`
	UntilS int64  `json:"until_s"`
}

type answer struct {
	Error  string   `json:"error"`
	Series []sample `json:"series"`
}

type sample struct {
	Labels map[string]string `json:"labels"`
	// As text: JSON has no NaN.
	Value string `json:"value"`
}

type output struct {
	Answers []answer `json:"answers"`
	// The seconds at which each alert fires first and last.
	FiresAtS map[string][]int64 `json:"fires_at_s"`
}

func main() {
	if err := run(os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(from io.Reader, to io.Writer) error {
	var asked input
	if err := json.NewDecoder(from).Decode(&asked); err != nil {
		return err
	}
	folder, err := os.MkdirTemp("", "prometheus-engine-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(folder)
	db, err := tsdb.Open(folder, nil, nil, tsdb.DefaultOptions(), nil)
	if err != nil {
		return err
	}
	defer db.Close()
	if err := store(db, asked); err != nil {
		return err
	}
	language := parser.NewParser(parser.Options{})
	engine := promql.NewEngine(promql.EngineOpts{
		MaxSamples: 10_000_000, Timeout: time.Minute, EnableAtModifier: true, Parser: language,
	})
	said := output{Answers: []answer{}, FiresAtS: map[string][]int64{}}
	for _, query := range asked.Queries {
		said.Answers = append(said.Answers, ask(engine, db, query, asked.QueryAtS))
	}
	if asked.Rules != "" {
		if err := alert(engine, db, language, asked, said.FiresAtS); err != nil {
			return err
		}
	}
	return json.NewEncoder(to).Encode(said)
}

func store(db *tsdb.DB, asked input) error {
	appender := db.Appender(context.Background())
	for _, page := range asked.Pages {
		if err := storePage(appender, []byte(page.Text), page.Labels, page.AtS*1000); err != nil {
			return err
		}
	}
	for _, line := range asked.Series {
		series, values, err := parser.NewParser(parser.Options{}).ParseSeriesDesc(line)
		if err != nil {
			return fmt.Errorf("%s: %w", line, err)
		}
		for i, value := range values {
			if value.Omitted {
				continue
			}
			if _, err := appender.Append(0, series, int64(i)*asked.StepS*1000, value.Value); err != nil {
				return fmt.Errorf("%s: %w", line, err)
			}
		}
	}
	return appender.Commit()
}

func storePage(appender storage.Appender, text []byte, target map[string]string, atMs int64) error {
	table := labels.NewSymbolTable()
	lines, err := textparse.New(text, "text/plain", table, textparse.ParserOptions{})
	if err != nil {
		return err
	}
	for {
		entry, err := lines.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		if entry != textparse.EntrySeries {
			continue
		}
		_, _, value := lines.Series()
		var found labels.Labels
		lines.Labels(&found)
		whole := labels.NewBuilder(found)
		for name, text := range target {
			whole.Set(name, text)
		}
		if _, err := appender.Append(0, whole.Labels(), atMs, value); err != nil {
			return err
		}
	}
	up := labels.NewBuilder(labels.FromStrings(labels.MetricName, "up"))
	for name, text := range target {
		up.Set(name, text)
	}
	_, err = appender.Append(0, up.Labels(), atMs, 1)
	return err
}

func ask(engine *promql.Engine, db *tsdb.DB, text string, atS int64) answer {
	query, err := engine.NewInstantQuery(context.Background(), db, nil, text, time.Unix(atS, 0))
	if err != nil {
		return answer{Error: err.Error()}
	}
	defer query.Close()
	result := query.Exec(context.Background())
	if result.Err != nil {
		return answer{Error: result.Err.Error()}
	}
	found := answer{Series: []sample{}}
	vector, err := result.Vector()
	if err != nil {
		scalar, err := result.Scalar()
		if err != nil {
			return answer{Error: err.Error()}
		}
		return answer{Series: []sample{{Value: fmt.Sprint(scalar.V)}}}
	}
	for _, one := range vector {
		found.Series = append(found.Series, sample{Labels: one.Metric.Map(), Value: fmt.Sprint(one.F)})
	}
	return found
}

func alert(engine *promql.Engine, db *tsdb.DB, language parser.Parser, asked input, firesAtS map[string][]int64) error {
	manager := rules.NewManager(&rules.ManagerOptions{
		QueryFunc:    rules.EngineQueryFunc(engine, db),
		AppendableV2: db,
		Queryable:    db,
		NotifyFunc:   func(context.Context, string, ...*rules.Alert) {},
		Parser:       language,
	})
	step := time.Duration(asked.StepS) * time.Second
	groups, problems := manager.LoadGroups(step, labels.EmptyLabels(), "", nil, false, asked.Rules)
	if len(problems) > 0 {
		return errors.Join(problems...)
	}
	for atS := int64(0); atS <= asked.UntilS; atS += asked.StepS {
		for _, group := range groups {
			group.Eval(context.Background(), time.Unix(atS, 0))
			for _, rule := range group.AlertingRules() {
				if err := rule.LastError(); err != nil {
					return fmt.Errorf("%s: %w", rule.Name(), err)
				}
				if rule.State() != rules.StateFiring {
					continue
				}
				if times := firesAtS[rule.Name()]; len(times) == 0 {
					firesAtS[rule.Name()] = []int64{atS, atS}
				} else {
					times[1] = atS
				}
			}
		}
	}
	return nil
}
