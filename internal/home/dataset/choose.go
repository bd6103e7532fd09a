package dataset

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/trefoil-eu/trefoil/internal/home/postgres"
	"github.com/trefoil-eu/trefoil/internal/home/transform"
	"github.com/trefoil-eu/trefoil/internal/rules/catalog"
	"github.com/trefoil-eu/trefoil/internal/rules/law"
)

// chooser decides which rows of the person table are subjects of the dataset. All choices
// that are set must hold; with none set nobody is chosen.
type chooser struct {
	at time.Time // protection after a move is reckoned from here: the source's clock at the snapshot

	residence               bool
	region                  law.Region
	current, before, change int // of the row as read, -1 when the catalog has no such column

	list       map[string]bool
	restricted map[string]bool // whose rows no dataset may hold now
	key        int
	from       listed

	condition *catalog.Condition
	values    []conditionValue
	row       map[string]any
	Undecided int64 // rows for which the condition had no answer

	scratch []byte
}

// conditionValue is a column that the condition reads.
type conditionValue struct {
	name  string
	read  int
	parse func(string) (any, error)
}

// makeChooser compiles the dataset's choice of rows.
func (p *plan) makeChooser(cfg Config) error {
	t := p.byName[p.cat.Person.Table]
	if t == nil || !t.person {
		return nil // tables of nobody alone
	}
	r := p.ds.Rows
	c := &chooser{current: -1, before: -1, change: -1, row: map[string]any{}}
	t.choose = c
	if len(r.Residence) > 0 {
		if err := c.chooseResidence(p, t, r.Residence); err != nil {
			return err
		}
	}
	if r.Subjects != "" {
		if t.src.Column(p.cat.Person.Key) == nil {
			return fmt.Errorf("column %s.%s is not at the source", t.name, p.cat.Person.Key)
		}
		c.key = t.ask(p.cat.Person.Key)
		path := r.Subjects
		if !filepath.IsAbs(path) {
			path = filepath.Join(cfg.SubjectDir, path)
		}
		var err error
		c.from.path = path
		if c.from.seen, err = os.Stat(path); err != nil { // before it is read: a later change is seen
			return fmt.Errorf("read subject list: %w", err)
		}
		if c.list, err = readSubjects(path); err != nil {
			return err
		}
	}
	if p.narrow != nil {
		if t.src.Column(p.cat.Person.Key) == nil {
			return fmt.Errorf("column %s.%s is not at the source", t.name, p.cat.Person.Key)
		}
		c.key, c.list = t.ask(p.cat.Person.Key), p.narrow.chosen(c.list)
	}
	if err := c.restrict(cfg, p, t); err != nil {
		return err
	}
	if r.Condition != "" {
		return c.compileCondition(t, r.Condition)
	}
	return nil
}

func (c *chooser) chooseResidence(p *plan, t *table, names []string) error {
	region, err := law.NewRegion(names)
	if err != nil {
		return err
	}
	c.residence, c.region = true, region
	if p.cat.Person.Residence == "" {
		return errors.New("rows are chosen by residence, but the catalog names no column of residence")
	}
	for _, f := range []struct {
		into *int
		name string
	}{{&c.current, p.cat.Person.Residence}, {&c.before, p.cat.Person.ResidenceBefore}, {&c.change, p.cat.Person.ResidenceChanged}} {
		if f.name == "" {
			continue
		}
		if t.src.Column(f.name) == nil {
			return fmt.Errorf("column %s.%s is not at the source", t.name, f.name)
		}
		*f.into = t.ask(f.name)
	}
	return nil
}

func (c *chooser) compileCondition(t *table, text string) error {
	types := map[string]string{}
	for _, col := range t.cat.Columns {
		if src := t.src.Column(col.Name); src != nil {
			types[col.Name] = conditionType(src)
		}
	}
	var err error
	if c.condition, err = catalog.CompileCondition(text, types); err != nil {
		return err
	}
	for _, name := range c.condition.Columns() {
		c.values = append(c.values, conditionValue{name, t.ask(name), conditionParser(t.src.Column(name))})
	}
	return nil
}

// conditionType is the column's type as a condition sees it.
func conditionType(c *postgres.Column) string {
	if len(c.Enum) > 0 && !transform.ParseType(c.BaseType).Array {
		return "text"
	}
	return c.BaseType
}

func conditionParser(c *postgres.Column) func(string) (any, error) {
	switch base := transform.ParseType(conditionType(c)).Base; base {
	case "boolean":
		return func(s string) (any, error) { return s == "t", nil }
	case "smallint", "integer", "bigint":
		return func(s string) (any, error) { return strconv.ParseInt(s, 10, 64) }
	case "numeric", "real", "double precision":
		return func(s string) (any, error) { return strconv.ParseFloat(s, 64) }
	case "date", "timestamp without time zone", "timestamp with time zone":
		return func(s string) (any, error) { return parseStamp(s) }
	case "character", "bpchar":
		return func(s string) (any, error) { return string(bytes.TrimRight([]byte(s), " ")), nil }
	}
	return func(s string) (any, error) { return s, nil }
}

// Beyond these no date of PostgreSQL reaches; they stand for its infinities.
var (
	farPast   = time.Date(-9999, 1, 1, 0, 0, 0, 0, time.UTC)
	farFuture = time.Date(9999, 12, 31, 0, 0, 0, 0, time.UTC)
)

// parseStamp reads a date or timestamp in ISO style with TimeZone UTC.
func parseStamp(s string) (time.Time, error) {
	switch s {
	case "infinity":
		return farFuture, nil
	case "-infinity":
		return farPast, nil
	}
	for _, layout := range []string{time.DateOnly, "2006-01-02 15:04:05.999999", "2006-01-02 15:04:05.999999-07"} {
		if t, err := time.Parse(layout, s); err == nil {
			return t.UTC(), nil
		}
	}
	if len(s) > 3 && s[len(s)-3:] == " BC" {
		return farPast, nil
	}
	if i := bytes.IndexByte([]byte(s), '-'); i > 4 {
		return farFuture, nil
	}
	return time.Time{}, errors.New("not a date")
}

// readSubjects reads one subject key a line, as the source prints keys.
func readSubjects(path string) (map[string]bool, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read subject list: %w", err)
	}
	defer f.Close()
	list := map[string]bool{}
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		if key := bytes.TrimSpace(lines.Bytes()); len(key) > 0 && key[0] != '#' {
			list[string(key)] = true
		}
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("read subject list: %w", err)
	}
	return list, nil
}

// chosen says whether the person of a row is a subject.
func (c *chooser) chosen(fields [][]byte) bool {
	if !c.residence && c.list == nil && c.condition == nil {
		return false
	}
	if len(c.restricted) > 0 {
		if v, _ := c.text(fields, c.key); c.restricted[string(bytes.TrimRight(v, " "))] {
			return false
		}
	}
	if c.residence && !c.resides(fields) {
		return false
	}
	if c.list != nil {
		v, _ := c.text(fields, c.key)
		if !c.list[string(bytes.TrimRight(v, " "))] {
			return false
		}
	}
	return c.condition == nil || c.decide(fields)
}

// text is a field's value, unescaped, valid until the next call; false for NULL.
func (c *chooser) text(fields [][]byte, i int) ([]byte, bool) {
	if i < 0 || isNull(fields[i]) {
		return nil, false
	}
	var v []byte
	v, c.scratch = unescape(c.scratch, fields[i])
	return v, true
}

func (c *chooser) resides(fields [][]byte) bool {
	v, _ := c.text(fields, c.current)
	current := string(bytes.TrimRight(v, " "))
	if c.region.Contains(current) {
		return true
	}
	v, _ = c.text(fields, c.before)
	before := string(bytes.TrimRight(v, " "))
	var changed time.Time
	if v, ok := c.text(fields, c.change); ok {
		changed, _ = parseStamp(string(v)) // no date: the departure has none, and protection goes on
	}
	return law.Resident(current, before, changed, c.region, c.at)
}

func (c *chooser) decide(fields [][]byte) bool {
	for _, v := range c.values {
		c.row[v.name] = nil
		if text, ok := c.text(fields, v.read); ok {
			value, err := v.parse(string(text))
			if err != nil {
				c.Undecided++
				return false
			}
			c.row[v.name] = value
		}
	}
	yes, err := c.condition.Eval(c.row)
	if err != nil {
		c.Undecided++
	}
	return yes && err == nil
}
