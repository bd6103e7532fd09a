package model

import (
	"errors"
	"io"
)

// Read reads a model of either format: XGBoost's JSON begins with a brace, LightGBM's text with
// "tree". name is what errors call the file.
func Read(name string, r io.Reader) (*Model, error) { return nil, errors.New("not yet") }

// ReadFile reads the model in a file.
func ReadFile(path string) (*Model, error) { return nil, errors.New("not yet") }
