"""guest/python"""
