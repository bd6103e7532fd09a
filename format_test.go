package trefoil_test

import (
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/trefoil-eu/trefoil"
)

func formatPage(t *testing.T) string {
	t.Helper()
	page, err := os.ReadFile("docs/record-format.md")
	if err != nil {
		t.Fatal(err)
	}
	return string(page)
}

// TestEveryFieldIsInTheRecordFormat: the page is the specification, so a field that is not on
// it does not exist.
func TestEveryFieldIsInTheRecordFormat(t *testing.T) {
	page := formatPage(t)
	seen := map[reflect.Type]bool{}
	var walk func(reflect.Type)
	walk = func(typ reflect.Type) {
		switch typ.Kind() {
		case reflect.Pointer, reflect.Slice, reflect.Map:
			walk(typ.Elem())
		case reflect.Struct:
			if seen[typ] || typ == reflect.TypeFor[time.Time]() {
				return
			}
			seen[typ] = true
			for i := range typ.NumField() {
				name, options, _ := strings.Cut(typ.Field(i).Tag.Get("json"), ",")
				if !strings.Contains(page, "`"+name+"`") {
					t.Errorf("%s.%s: `%s` is not on the page", typ.Name(), typ.Field(i).Name, name)
				}
				if options != "" && options != "omitempty" {
					t.Errorf("%s.%s: the format knows no %q", typ.Name(), typ.Field(i).Name, options)
				}
				walk(typ.Field(i).Type)
			}
		}
	}
	walk(reflect.TypeFor[trefoil.Body]())
	if len(seen) < 15 {
		t.Fatalf("only %d types were looked at", len(seen))
	}
}

// TestRefusalReasonsAreClosed compares the set in code with the page's table, and with the words
// that the door uses.
func TestRefusalReasonsAreClosed(t *testing.T) {
	page := formatPage(t)
	_, section, _ := strings.Cut(page, "### `refusal`")
	section, _, _ = strings.Cut(section, "###")
	onPage := map[string]bool{}
	for _, m := range regexp.MustCompile("(?m)^\\| `([a-z-]+)` \\|").FindAllStringSubmatch(section, -1) {
		onPage[m[1]] = true
	}
	inCode := map[string]bool{}
	for _, r := range trefoil.RefusalReasons() {
		inCode[r] = true
		if !onPage[r] {
			t.Errorf("%s is not on the page", r)
		}
	}
	if len(onPage) != len(inCode) {
		t.Errorf("%d reasons on the page, %d in code", len(onPage), len(inCode))
	}
	used := regexp.MustCompile(`(?m)^\s+reason[A-Z]\w+\s+= "([a-z-]+)"|Reason(?::| =) "([a-z-]+)"`)
	found := 0
	for _, dir := range []string{"internal/door/gateway", "internal/door/release", "internal/enclave"} {
		files, err := filepath.Glob(filepath.Join(dir, "*.go"))
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range files {
			text, err := os.ReadFile(file)
			if err != nil || strings.HasSuffix(file, "_test.go") {
				continue
			}
			for _, m := range used.FindAllStringSubmatch(string(text), -1) {
				found++
				if reason := m[1] + m[2]; !inCode[reason] {
					t.Errorf("%s refuses for the reason %q, which is not in the set", file, reason)
				}
			}
		}
	}
	if found < 10 {
		t.Fatalf("only %d reasons were found in the code: the search is broken", found)
	}
}
