package model

import (
	"encoding/json"
	"errors"
	"io"
	"math"
	"strconv"
)

// unquote decodes the string literal in s.word.
func (s *scanner) unquote() (string, error) {
	var out string
	if err := json.Unmarshal(s.word, &out); err != nil {
		return "", s.errorf("a string is not valid JSON")
	}
	return out, nil
}

// whole takes a whole number between low and high: as a number, or in a string, as XGBoost
// writes parameters.
func (s *scanner) whole(what string, low, high int) (int, error) {
	c, err := s.peek()
	if err != nil {
		return 0, err
	}
	var v float64
	if c == '"' {
		text, err := s.text()
		if err != nil {
			return 0, err
		}
		n, err := strconv.Atoi(text)
		if err != nil {
			return 0, s.errorf("%s is no whole number", what)
		}
		v = float64(n)
	} else if v, err = s.number(); err != nil {
		return 0, err
	}
	if v != math.Trunc(v) || v < float64(low) || v > float64(high) {
		return 0, s.errorf("%s is no whole number between %d and %d", what, low, high)
	}
	return int(v), nil
}

// floats takes an array of finite numbers, which must survive the way to float32.
func (s *scanner) floats(what string) ([]float32, error) {
	var out []float32
	err := s.array(func(i int) error {
		v, err := s.number()
		if err != nil {
			return err
		}
		if !finite(float64(float32(v))) {
			return s.errorf("%s: value %d is no finite number", what, i)
		}
		if out = append(out, float32(v)); len(out) > 2*maxNodes {
			return s.errorf("%s has more than %d values", what, 2*maxNodes)
		}
		return nil
	})
	return out, err
}

// wholes takes an array of whole numbers of 32 bits. true and false count as 1 and 0.
func (s *scanner) wholes(what string) ([]int32, error) {
	var out []int32
	err := s.array(func(i int) error {
		c, err := s.peek()
		if err != nil {
			return err
		}
		n := 0
		if c == 't' || c == 'f' {
			if err := s.literal(); err != nil {
				return err
			}
			if string(s.word) == "true" {
				n = 1
			}
		} else if n, err = s.whole(what, math.MinInt32, math.MaxInt32); err != nil {
			return err
		}
		if out = append(out, int32(n)); len(out) > 2*maxNodes {
			return s.errorf("%s has more than %d values", what, 2*maxNodes)
		}
		return nil
	})
	return out, err
}

// texts takes an array of strings.
func (s *scanner) texts(what string, most int) ([]string, error) {
	var out []string
	err := s.array(func(int) error {
		v, err := s.text()
		if out = append(out, v); err == nil && len(out) > most {
			return s.errorf("%s has more than %d values", what, most)
		}
		return err
	})
	return out, err
}

// end requires that nothing but white space follows.
func (s *scanner) end() error {
	for {
		c, err := s.in.ReadByte()
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		case c != ' ' && c != '\t' && c != '\r' && c != '\n':
			return s.errorf("something follows the document")
		}
	}
}
