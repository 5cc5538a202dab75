"""Images made from the one before: two trees and a plan in, a layer with what changed out, or the reason why
that is not proven.
"""
